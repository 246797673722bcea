"""Sealing: the keys leave memory for good, because the process that held them is replaced by a fresh one."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.custody.secret_memory import MEMFD_SECRET
from appliance.custody.slot import LOG_SLOT, open_slot
from appliance.errors import NotRunning, SealedError
from tests.processes.conftest import Template
from tests.processes.living import Living, descendants, eventually

pytestmark = pytest.mark.processes


def test_seal_ends_jobs_and_a_fresh_process_answers_with_the_same_pid(living: Living):
    job = living.train("endless")
    events = living.events(job)
    next(event for event in events if event["kind"] == "checkpoint")
    kept = living.job(job)["results"]
    started = Path(f"/proc/{living.pid}/cmdline").read_bytes()
    front = living.children("appliance.front")
    assert living.cli("seal", "--reason", "end of shift").returncode == 0
    *_, ended = events
    assert (ended["kind"], ended["reason"]) == ("failed", "sealed")
    assert living.call("Status")["sealed"]
    assert living.call("Status")["pid"] == living.pid
    assert Path(f"/proc/{living.pid}/cmdline").read_bytes() != started  # the same pid runs another program
    assert living.children("appliance.front") != front
    with pytest.raises(SealedError):
        living.train("tiny")
    living.unseal()
    assert living.plaintext(kept[-1])
    living.resume(job)
    living.wait_for(job, "checkpoint")
    living.shutdown()
    living.demand_sound_log()
    assert '"end of shift"' in living.entries()


def test_children_of_a_process_that_was_sealed_hold_no_lock(living: Living):
    """A front or worker that outlived the custodian would keep the next one from starting."""
    assert living.cli("seal").returncode == 0
    living.unseal()
    job = living.train("endless")
    living.wait_for(job, "started")
    held = [str(link.readlink()) for link in open_files(living.pid)]
    assert str(living.home / "run" / "lock") in held  # the positive control
    for child in descendants(living.pid):
        targets = [str(link.readlink()) for link in open_files(child)]
        assert not [target for target in targets if str(living.home / "run") in target], targets
        assert not [target for target in targets if str(living.home / "log") in target], targets
    assert living.cli("daemon", "--foreground").returncode == 16


def open_files(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to read the memory of processes that forbid it")
def test_no_key_and_no_plaintext_is_left_in_memory_after_seal(living: Living, template: Template):
    keyring = living.keyring()
    secrets = {
        "vault identity": bytes(keyring.vault_identity.secret()),
        "transfer identity": bytes(keyring.transfer_identity.secret()),
        "entry secret": bytes(keyring.entry_secret),
        "bundle seed": bytes(keyring.bundle_seed),
    }
    hidden = keyring.memory_kind == MEMFD_SECRET
    job = living.train("endless")
    living.wait_for(job, "checkpoint")
    custodian = list(memory(living.pid))
    log_key = bytes(open_slot(living.home / "keys", LOG_SLOT, None))
    assert found_in(custodian, log_key), "the positive control: the log's key stays in ordinary memory"
    for name, secret in secrets.items():  # where the kernel hides them, not even root sees them in use
        assert found_in(custodian, secret) != hidden, f"{name}: expected {'hidden' if hidden else 'found'}"
    (trainer, *_) = living.children("appliance.worker")
    worker = list(memory(trainer))
    assert found_in(worker, template.canary.encode()), "the corpus should be in the worker's memory"
    for name, secret in secrets.items():
        assert not found_in(worker, secret), f"{name} is in a worker's memory"
    assert living.cli("seal").returncode == 0
    eventually(lambda: living.call("Status")["sealed"], "the fresh process")
    for pid in [living.pid, *descendants(living.pid)]:
        now = list(memory(pid))
        for name, secret in {**secrets, "corpus": template.canary.encode()}.items():
            assert not found_in(now, secret), f"{name} is still in the memory of {pid}"


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to read the memory of processes that forbid it")
def test_no_weight_is_left_in_memory_after_seal(living: Living):
    rows = [row for row in living.objects("weights") if row["name"] == "tiny"]
    row = max(rows, key=lambda row: row["version"])
    canary = inside_largest_tensor(living.plaintext(row["id"]))
    assert len(set(canary)) > 16, "numbers that differ, not padding"
    asked = {"model": "tiny", "prompt": "The ", "length": 4000, "temperature": 1.0, "top_k": 0, "seed": 1}
    with contextlib.closing(living.stream("Sample", asked)) as pieces:
        next(pieces)
        (sampler, *_) = living.children("appliance.worker")
        assert found_in(list(memory(sampler)), canary), "the positive control: weights in use are found"
        assert not found_in(list(memory(living.pid)), canary), "the custodian touches no tensor"
        assert living.cli("seal").returncode == 0
    eventually(lambda: living.call("Status")["sealed"], "the fresh process")
    for pid in [living.pid, *descendants(living.pid)]:
        assert not found_in(list(memory(pid)), canary), f"weights are still in the memory of {pid}"


def inside_largest_tensor(plain: bytes) -> bytes:
    """32 bytes of weights from the middle of one tensor: no two tensors lie side by side in memory."""
    size = int.from_bytes(plain[:8], "little")
    header = json.loads(plain[8 : 8 + size])
    spans = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
    begin, end = max(spans, key=lambda span: span[1] - span[0])
    middle = 8 + size + (begin + end) // 2 // 64 * 64
    return plain[middle : middle + 32]


def memory(pid: int) -> Iterator[bytes]:
    """Every readable mapping of a process."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
        for begin, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", maps, re.MULTILINE):
            try:
                mem.seek(int(begin, 16))
                yield mem.read(int(end, 16) - int(begin, 16))
            except (OSError, ValueError, OverflowError):
                continue  # vvar and its like are listed and cannot be read


def found_in(memory_of_a_process: list[bytes], secret: bytes) -> bool:
    return any(secret in mapping for mapping in memory_of_a_process)


def test_a_log_that_died_does_not_keep_the_vault_open(living: Living):
    """Sealing releases nothing, so it needs no entry: the keys are gone, whatever becomes of the log."""
    (living.home / "log" / "wal").chmod(0o400)
    eventually(lambda: not living.call("Status")["log_alive"], "the log to be found dead")
    living.call("Seal")

    def closed() -> bool:
        try:
            return bool(living.call("Status")["sealed"])
        except NotRunning:
            return True

    eventually(closed, "the vault to be closed")
