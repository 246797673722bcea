"""A crash at every system call of create, append, publish and rotation loses nothing that was answered."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

import audit.log
from audit.errors import AlreadyExists
from audit.receipt import verify_receipt
from audit.verify import verify_log

CALLS = (
    "open",
    "pwrite",
    "fdatasync",
    "fsync",
    "rename",
    "mkdir",
    "unlink",
    "rmdir",
    "ftruncate",
    "posix_fallocate",
)


class Crash(BaseException):
    """The process is gone: nothing in the program may handle this."""


class Crashing:
    """Counts the calls that change a disk, and crashes at the n-th; a write is torn in two first."""

    def __init__(self, monkeypatch, at):
        self.count, self.at = 0, at
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, real):
        def call(*arguments, **options):
            self.count += 1
            if self.count == self.at:
                if name == "pwrite":
                    fd, data, offset = arguments
                    real(fd, bytes(data[: len(data) // 2]), offset)
                raise Crash(name)
            return real(*arguments, **options)

        return call


def life(logs, record, answered):
    """Everything that a log does in its life, rotation and replacement of partial tiles included."""
    log = logs.create()
    for count in (1, 254, 3, 20):
        answered += log.append([record(log.size + i) for i in range(count)])
        log.publish()
    answered += log.append([record(log.size)])
    log.close()


def crash_points(monkeypatch, logs, record):
    with monkeypatch.context() as patch:
        counting = Crashing(patch, at=-1)
        life(logs, record, [])
    return counting.count


@pytest.fixture
def in_memory(tmp_path):
    """A folder on a file system without a disk where there is one: a thousand fsyncs test nothing here."""
    shared = Path("/dev/shm")  # noqa: S108  a folder of our own is made below it
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as home:
        yield Path(home)


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 16384)


@pytest.mark.parametrize("part", range(4))
def test_a_crash_at_any_call_loses_nothing_that_was_answered(
    logs, signer, record, monkeypatch, small_files, in_memory, part
):
    logs.home = in_memory / "counted"
    total = crash_points(monkeypatch, logs, record)
    assert total > 80
    for at in range(1 + part, total + 1, 4):
        logs.home = in_memory / f"crashed-{at}"
        answered = []
        with monkeypatch.context() as patch:
            Crashing(patch, at)
            with pytest.raises(Crash):
                life(logs, record, answered)
        logs.die()
        demand_recovered(logs, signer, record, answered, at)


def demand_recovered(logs, signer, record, answered, at):
    if (logs.home / "wal").exists():
        with pytest.raises(AlreadyExists):
            logs.create()
        log = logs.open()
    else:
        log = logs.create()  # the crash came before there was a log
        assert not answered
    context = f"crash at call {at}"
    assert len(answered) <= log.size <= len(answered) + 254, context
    assert list(log.entries())[: len(answered)] == [done.entry for done in answered], context
    log.append([record()])
    log.close()
    receipts = [
        verify_receipt(done.receipt, done.entry, signer.vkey)
        for done in answered[:: max(1, len(answered) // 5)]
    ]
    assert verify_log(logs.home, signer.vkey, receipts=receipts).size == log.size, context
