"""A disk that neither fails nor answers: the log stops within a second, and writes nothing afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from audit.errors import LogBusy, LogUnavailable
from audit.folder import WAL
from audit.verify import verify_log

ROOT = Path(__file__).parents[2]
TOLD = r"cannot be written: the disk did not answer within 0\.8 seconds; nothing more is logged"


class HangingCall:
    """Stands in for a function of `os`: the n-th call hangs, before or after its work, until it is let go."""

    def __init__(self, monkeypatch, name, *, nth=1, works_first=False):
        self.real, self.left, self.works_first = getattr(os, name), nth, works_first
        self.let_go, self.came_back = threading.Event(), threading.Event()
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments, **options):
        self.left -= 1
        if self.left != 0:
            return self.real(*arguments, **options)
        if self.works_first:
            result = self.real(*arguments, **options)
            self.let_go.wait(30)
        else:
            self.let_go.wait(30)
            result = self.real(*arguments, **options)
        self.came_back.set()
        return result


def demand_told_in_time(call):
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match=TOLD):
        call()
    assert time.monotonic() - began < 1


def demand_released(logs):
    """Open the log once what hung came back; until then its folder is locked."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return logs.open()
        except LogBusy:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "nth", "works_first", "stands"),
    [
        ("pwrite", 1, False, 1),  # comes back late, written whole but not synced: a crash after the write
        ("fdatasync", 1, False, 1),
        ("fdatasync", 1, True, 1),
        ("pwrite", 2, False, 1),  # the signed head behind the group
        ("fstat", 1, False, 0),
    ],
)
def test_an_operation_that_hangs_stops_the_log_within_a_second(
    logs, signer, record, monkeypatch, name, nth, works_first, stands
):
    log = logs.create()
    log.append([record(1)])
    with monkeypatch.context() as patch:
        hanging = HangingCall(patch, name, nth=nth, works_first=works_first)
        demand_told_in_time(lambda: log.append([record(2)]))
        began = time.monotonic()
        for call in (lambda: log.append([record(3)]), log.publish, log.check):
            with pytest.raises(LogUnavailable, match="the log has stopped: it cannot be written: the disk"):
                call()
        log.close()
        assert time.monotonic() - began < 0.5
        with pytest.raises(LogBusy):  # what hangs may still write, so nobody else may
            logs.open()
        hanging.let_go.set()
        assert hanging.came_back.wait(5)
    again = demand_released(logs)
    assert again.size == 1 + stands
    again.append([record(4)])
    again.close()
    assert verify_log(logs.home, signer.vkey).size == 2 + stands


def test_nothing_is_written_after_the_operation_that_hung(logs, record, monkeypatch):
    log = logs.create()
    log.append([record(1)])
    before = (logs.home / WAL).stat().st_size
    with monkeypatch.context() as patch:
        hanging = HangingCall(patch, "pwrite")
        synced = HangingCall(patch, "fdatasync", nth=10**6)
        demand_told_in_time(lambda: log.append([record(2)]))
        group = log._wal
        hanging.let_go.set()
        assert hanging.came_back.wait(5)
        log.close()
        while not log._disk._ended:
            time.sleep(0.005)
        assert synced.left == 10**6  # no fsync, no head: only the one write that was already begun
    assert group.size == before


def test_everyone_who_waits_is_told_of_a_disk_that_hangs(logs, record, monkeypatch):
    log = logs.create()
    told = []

    def work():
        began = time.monotonic()
        with pytest.raises(LogUnavailable, match="the disk did not answer"):
            log.append([record()])
        told.append(time.monotonic() - began)

    with monkeypatch.context() as patch:
        hanging = HangingCall(patch, "fdatasync")
        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        hanging.let_go.set()
    assert len(told) == 12
    assert max(told) < 1.2


@pytest.mark.parametrize("name", ["fsync", "rename"])
def test_a_publication_that_hangs_stops_the_log_and_its_next_step_is_never_taken(
    logs, signer, record, monkeypatch, name
):
    log = logs.create()
    log.append([record(1)])
    published = (logs.home / "checkpoint").read_bytes()
    with monkeypatch.context() as patch:
        hanging = HangingCall(patch, name)
        demand_told_in_time(log.publish)
        log.close()
        hanging.let_go.set()
        assert hanging.came_back.wait(5)
        while not log._disk._ended:
            time.sleep(0.005)
    assert (logs.home / "checkpoint").read_bytes() == published
    assert demand_released(logs).size == 1
    logs.die()
    assert verify_log(logs.home, signer.vkey).size == 1


def test_an_opening_that_hangs_at_its_publication_fails_and_keeps_the_folder_locked(logs, monkeypatch):
    logs.create().close()
    with monkeypatch.context() as patch:
        hanging = HangingCall(patch, "rename", nth=2)  # the first puts the write-ahead file in place
        with pytest.raises(LogUnavailable, match="the disk did not answer"):
            logs.open()
        with pytest.raises(LogBusy):
            logs.open()
        hanging.let_go.set()
    assert demand_released(logs).size == 0


APPENDER = """
import sys, time
from pathlib import Path
from audit.entry import Record
from audit.errors import LogUnavailable
from audit.log import Log
from audit.note import NoteSigner
log = Log.open(Path(sys.argv[1]), NoteSigner("log.example/test", bytes(range(32))))
for number in range(10):
    began = time.monotonic()
    try:
        log.append([Record("decision", "p", "a", "r", {"number": number})])
    except LogUnavailable as failure:
        print(number, time.monotonic() - began, failure, flush=True)
        log.close()
        sys.exit(failure.exit_code)
"""


def test_an_fdatasync_that_the_kernel_delays_stops_the_log_within_a_second(logs, signer, record):
    strace = shutil.which("strace")
    probe = [strace or "false", "-qq", "-e", "trace=none", "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("strace cannot trace here: no real delay is injected")
    logs.create().close()
    inject = "inject=fdatasync:delay_enter=2500000:when=4+"
    command = [strace, "-qq", "-f", "-o", os.devnull, "-e", "trace=fdatasync", "-e", inject]
    done = subprocess.run(
        [*command, sys.executable, "-c", APPENDER, str(logs.home)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 17, done.stderr
    number, waited_s, told = done.stdout.split(" ", 2)
    assert number == "3"
    assert float(waited_s) < 1
    assert "did not answer within 0.8 seconds" in told
    log = demand_released(logs)
    assert log.size in {3, 4}
    log.close()
    assert verify_log(logs.home, signer.vkey).size == log.size


@pytest.fixture
def freezable(tmp_path):
    """A file system of its own, and functions that freeze and thaw it; skips aloud where that cannot be."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("fsfreeze", "mkfs.ext4", "mount"))):
        pytest.skip("needs root and fsfreeze: no file system is really frozen")
    image, folder = tmp_path / "image", tmp_path / "frozen"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a loop device here: no file system is really frozen")
    try:
        yield folder, lambda how: subprocess.run(["fsfreeze", how, folder], check=True)
    finally:
        subprocess.run(["fsfreeze", "-u", folder], capture_output=True, check=False)
        subprocess.run(["umount", folder], check=True)


def test_a_file_system_that_is_really_frozen_stops_the_log_within_a_second(freezable, logs, signer, record):
    folder, fsfreeze = freezable
    logs.home = folder / "log"
    log = logs.create()
    log.append([record(1)])
    fsfreeze("-f")
    demand_told_in_time(lambda: log.append([record(2)]))
    log.close()
    fsfreeze("-u")
    log = demand_released(logs)
    assert log.size in {1, 2}
    log.append([record(3)])
    log.close()
    assert verify_log(logs.home, signer.vkey).size == log.size
