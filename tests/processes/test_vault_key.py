"""The vault's key rotates under a running appliance; killed at any moment, every object still opens."""

from __future__ import annotations

import threading
import time

import pytest

from tests.processes.living import Living

pytestmark = pytest.mark.processes


def ids(living: Living) -> list[str]:
    return [item["id"] for item in living.objects()]


def test_the_operator_rotates_and_everything_goes_on(living: Living):
    old = living.keyring().vault_identity.recipient.text
    told = living.cli("keys", "rotate", "--reason", "yearly")
    assert told.returncode == 0, told.stderr
    assert f"rotated: {len(ids(living))} objects, log entry" in told.stdout
    assert "make a new backup" in told.stderr
    assert living.keyring().vault_identity.recipient.text != old
    assert living.last_word(living.train("tiny"))["kind"] == "done"
    living.shutdown()
    living.start().unseal()
    assert living.last_word(living.train("tiny"))["kind"] == "done"
    living.demand_nothing_half_written()
    living.shutdown()
    living.demand_sound_log()


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.02])
def test_killed_while_the_key_rotates_every_object_opens_and_a_repeat_ends_it(living: Living, delay_s: float):
    names = ids(living)
    slot = living.home / "keys" / "vault.age"
    before = slot.read_bytes()
    asking = threading.Thread(target=living.cli, args=("keys", "rotate"))
    asking.start()
    deadline = time.monotonic() + 10
    while slot.read_bytes() == before and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(delay_s)
    living.kill()
    asking.join()
    for name in names:
        living.plaintext(name)
    living.start().unseal()
    assert living.cli("keys", "rotate").returncode == 0
    assert living.keyring().next_vault_identity is None
    for name in names:
        living.plaintext(name)
        assert sorted(path.name for path in (living.home / "vault" / name).iterdir()) == ["header", "payload"]
    living.shutdown()
    living.demand_sound_log()
