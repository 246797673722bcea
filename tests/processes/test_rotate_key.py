"""The log's key rotates under a running appliance, and wherever it is killed meanwhile the log goes on."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes.living import Living

pytestmark = pytest.mark.processes


def audited(living: Living, *arguments: object) -> dict[str, Any]:
    """What the auditor's program says, given nothing but the first public key."""
    done = living.audit("--json", *arguments)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def slots(living: Living) -> list[str]:
    return sorted(path.name for path in (living.home / "keys").glob("log*.age"))


def test_the_operator_rotates_the_key_and_the_auditor_keeps_the_first(living: Living, tmp_path: Path):
    early = tmp_path / "early"
    assert living.cli("log", "receipt", "1", "--out", early).returncode == 0
    told = living.cli("audit", "rotate-key", "--reason", "yearly")
    assert told.returncode == 0, told.stderr
    assert "epoch 1 of the log's key begins after entry" in told.stdout
    assert slots(living) == ["log-1.age"]
    assert living.last_word(living.train("tiny"))["kind"] == "done"
    late = tmp_path / "late"
    assert living.cli("log", "receipt", "1", "--out", late).returncode == 0
    living.shutdown()
    said = audited(living, "--receipt", f"{early}.tlog-proof", f"{late}.tlog-proof")
    assert (len(said["epochs"]), said["receipts"]) == (2, 2)
    assert said["signers"] != [(living.public / "log.vkey").read_text().strip()]
    living.start().unseal()
    assert living.cli("audit", "rotate-key", "--reason", "again").returncode == 0
    living.shutdown()
    assert len(audited(living)["epochs"]) == 3


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.012, 0.03])
def test_killed_while_the_key_rotates_it_starts_again_under_the_right_one(asleep: Living, delay_s: float):
    asleep.start()
    asking = threading.Thread(target=asleep.cli, args=("audit", "rotate-key", "--reason", "yearly"))
    before = slots(asleep)
    asking.start()
    deadline = time.monotonic() + 10
    while slots(asleep) == before and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(delay_s)
    asleep.kill()
    asking.join()
    asleep.start().unseal()
    assert len(slots(asleep)) == 1
    assert asleep.last_word(asleep.train("tiny"))["kind"] == "done"
    asleep.shutdown()
    assert len(audited(asleep)["epochs"]) in {1, 2}
