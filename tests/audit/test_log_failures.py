"""The log made unwritable, in every way an operator, a disk or an attacker can: it stops, and says why."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit.entry import parse_entry
from audit.errors import LogUnavailable, Malformed
from audit.hold import RESERVE_BYTES
from audit.verify import verify_log

ROOT = Path(__file__).parents[2]


class FailingCall:
    """Stands in for a function of `os`: fails with an errno from the n-th call on, `times` times."""

    def __init__(self, monkeypatch, name, code, *, times=10**9, after=0):
        self.real, self.code, self.left, self.after = getattr(os, name), code, times, after
        monkeypatch.setattr(os, name, self)

    def __call__(self, *arguments, **options):
        self.after -= 1
        if self.after < 0 and self.left > 0:
            self.left -= 1
            raise OSError(self.code, os.strerror(self.code))
        return self.real(*arguments, **options)


def demand_stopped(log, record):
    """Every later call is refused at once, for the first reason."""
    began = time.monotonic()
    for call in (lambda: log.append([record()]), log.publish):
        with pytest.raises(LogUnavailable, match=r"the log has stopped: .*; mend that and open it again"):
            call()
    assert time.monotonic() - began < 1


def demand_recovers(logs, signer, record, size):
    """Reopened, the log holds exactly what was answered, takes more, and verifies."""
    log = logs.open()
    assert log.size == size
    assert log.append([record()])[0].index == size
    log.close()
    assert verify_log(logs.home, signer.vkey).size == size + 1


@pytest.mark.parametrize("name", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EDQUOT, errno.ENOSPC])
def test_a_failed_write_or_fsync_stops_the_log_and_leaves_no_half_entry(
    logs, signer, record, monkeypatch, name, code
):
    log = logs.create()
    log.append([record(1)])
    with monkeypatch.context() as patch:
        FailingCall(patch, name, code)
        with pytest.raises(LogUnavailable, match=f"cannot be written: {os.strerror(code)}; nothing more"):
            log.append([record(2)])
    demand_stopped(log, record)
    assert log.size == 1
    log.close()
    demand_recovers(logs, signer, record, 1)


def test_a_failed_fsync_is_not_retried(logs, record, monkeypatch):
    log = logs.create()
    FailingCall(monkeypatch, "fdatasync", errno.EIO, times=1)
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="Input/output error"):
            log.append([record()])


def test_a_half_written_entry_that_cannot_be_cut_off_is_dropped_at_the_next_start(
    logs, signer, record, monkeypatch
):
    log = logs.create()
    log.append([record(1)])
    real = os.pwrite
    with monkeypatch.context() as patch:
        FailingCall(patch, "ftruncate", errno.EIO)

        def half(fd, data, offset):
            real(fd, bytes(data[: len(data) // 2]), offset)
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(os, "pwrite", half)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            log.append([record(2)])
    log.close()
    demand_recovers(logs, signer, record, 1)


def test_a_failure_after_the_commit_answers_nobody_but_keeps_the_entry(logs, signer, record, monkeypatch):
    log = logs.create()
    with monkeypatch.context() as patch:
        FailingCall(patch, "pwrite", errno.EIO, after=1)  # the group is written, the head behind it is not
        with pytest.raises(LogUnavailable, match="Input/output error"):
            log.append([record(2)])
    demand_stopped(log, record)
    log.close()
    demand_recovers(logs, signer, record, 1)


def test_a_full_disk_is_itself_the_last_entry(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record(1)])
    with monkeypatch.context() as patch:
        FailingCall(patch, "pwrite", errno.ENOSPC, times=1)
        with pytest.raises(LogUnavailable, match="No space left on device"):
            log.append([record(2)])
    demand_stopped(log, record)
    log.close()
    assert (logs.home / "reserve").stat().st_size == 0
    assert verify_log(logs.home, signer.vkey).kinds == {"decision": 1, "log.full": 1}
    again = logs.open()
    assert parse_entry(again.entry(1)).kind == "log.full"
    assert (logs.home / "reserve").stat().st_size == RESERVE_BYTES


def test_a_disk_full_at_the_head_behind_a_group_still_takes_the_last_word(logs, signer, record, monkeypatch):
    log = logs.create()
    with monkeypatch.context() as patch:
        FailingCall(patch, "pwrite", errno.ENOSPC, times=1, after=1)
        with pytest.raises(LogUnavailable, match="No space left on device"):
            log.append([record(1)])
    log.close()
    assert verify_log(logs.home, signer.vkey).kinds == {"decision": 1, "log.full": 1}
    logs.open()


def test_a_disk_full_at_publication_still_takes_the_last_word(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record(1)])
    with monkeypatch.context() as patch:
        FailingCall(patch, "rename", errno.ENOSPC, times=1)
        with pytest.raises(LogUnavailable, match="No space left on device"):
            log.publish()
    log.close()
    assert verify_log(logs.home, signer.vkey).kinds == {"decision": 1, "log.full": 1}
    logs.open()


def test_a_log_without_room_for_its_reserve_does_not_start(logs, monkeypatch):
    logs.create().close()
    with monkeypatch.context() as patch:
        FailingCall(patch, "posix_fallocate", errno.ENOSPC)
        with pytest.raises(LogUnavailable, match="cannot be opened: No space left on device"):
            logs.open()
    assert logs.open().size == 0


@pytest.mark.parametrize("name", ["fsync", "rename"])
def test_a_failed_publication_stops_the_log(logs, signer, record, monkeypatch, name):
    log = logs.create()
    log.append([record(1)])
    with monkeypatch.context() as patch:
        FailingCall(patch, name, errno.EIO)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            log.publish()
    demand_stopped(log, record)
    log.close()
    demand_recovers(logs, signer, record, 1)


def test_a_failed_publication_at_close_still_lets_the_next_opener_in(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record(1)])
    with monkeypatch.context() as patch:
        FailingCall(patch, "rename", errno.EIO)
        with pytest.raises(LogUnavailable, match="Input/output error"):
            log.close()
    demand_recovers(logs, signer, record, 1)


def test_a_bug_in_the_middle_of_a_commit_stops_the_log_too(logs, record, monkeypatch):
    log = logs.create()
    monkeypatch.setattr(type(log), "_sign", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        log.append([record()])
    demand_stopped(log, record)


def test_a_failure_before_anything_is_written_stops_nothing(logs, record):
    log = logs.create()
    with pytest.raises(Malformed):
        log.append([record(kind="NOT A KIND")])
    assert log.append([record()])[0].index == 0


@pytest.mark.parametrize("what", ["replaced", "deleted", "folder moved", "folder replaced", "cut", "linked"])
def test_a_log_that_no_longer_stands_at_its_path_takes_no_entry(logs, record, what):
    log = logs.create()
    log.append([record(1)])
    wal, home = logs.home / "wal", logs.home
    if what == "replaced":
        shutil.copy(wal, home / "copy")
        (home / "copy").rename(wal)
    elif what == "deleted":
        wal.unlink()
    elif what == "folder moved":
        home.rename(home.with_name("moved"))
    elif what == "folder replaced":
        home.rename(home.with_name("moved"))
        shutil.copytree(home.with_name("moved"), home)
    elif what == "cut":
        os.truncate(wal, 40)
    elif what == "linked":
        os.link(wal, home / "second")
    with pytest.raises(LogUnavailable, match=r"wal: expected .*, found "):
        log.append([record(2)])
    demand_stopped(log, record)


def test_a_log_that_was_moved_is_noticed_while_nobody_appends(logs, record):
    log = logs.create()
    log.check()
    logs.home.rename(logs.home.with_name("moved"))
    with pytest.raises(LogUnavailable, match="moved or deleted"):
        log.check()
    demand_stopped(log, record)


def test_a_log_moved_during_the_commit_gives_no_receipt(logs, record, monkeypatch):
    log = logs.create()
    real = os.fdatasync

    def move(fd):
        real(fd)
        logs.home.rename(logs.home.with_name("moved"))

    monkeypatch.setattr(os, "fdatasync", move)
    with pytest.raises(LogUnavailable, match="moved or deleted"):
        log.append([record(1)])
    demand_stopped(log, record)


@pytest.mark.parametrize("which", ["wal", "."])
def test_cleared_write_bits_are_noticed_before_the_next_commit(logs, signer, record, which):
    log = logs.create()
    log.append([record(1)])
    path = logs.home / which
    mode = path.stat().st_mode
    path.chmod(mode & ~0o222)
    with pytest.raises(LogUnavailable, match="expected it writable, found mode"):
        log.append([record(2)])
    demand_stopped(log, record)
    path.chmod(mode)
    log.close()
    demand_recovers(logs, signer, record, 1)


APPENDER = """
import sys
from pathlib import Path
from audit.entry import Record
from audit.errors import LogUnavailable
from audit.log import Log
from audit.note import NoteSigner
log = Log.open(Path(sys.argv[1]), NoteSigner("log.example/test", bytes(range(32))))
print("ready", flush=True)
for number in range(50):
    try:
        done = log.append([Record("decision", "p", "a", "r", {"number": number})])
    except LogUnavailable as failure:
        print(failure, flush=True)
        sys.exit(failure.exit_code)
    print(done[0].index, flush=True)
"""


def traced(logs, inject):
    """Run the appender under strace with a fault in its system calls; skips aloud where that cannot be."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: faults of the kernel are not injected")
    if subprocess.run(
        [strace, "-qq", "-e", "trace=none", "true"], capture_output=True, check=False
    ).returncode:
        pytest.skip("strace may not trace here: faults of the kernel are not injected")
    logs.create().close()
    call = inject.partition(":")[0]
    command = [strace, "-qq", "-o", os.devnull, "-f", "-e", f"trace={call}", "-e", f"inject={inject}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", APPENDER, str(logs.home)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines.pop(0) == "ready", done.stderr
    return done.returncode, lines


@pytest.mark.parametrize("fault", ["EIO", "ENOSPC"])
def test_a_disk_that_fails_an_fsync_in_the_kernel_stops_the_log(logs, signer, record, fault):
    status, lines = traced(logs, f"fdatasync:error={fault}:when=4+")
    assert status == 17
    assert lines[:3] == ["0", "1", "2"]
    assert "nothing more is logged" in lines[3]
    demand_recovers(logs, signer, record, 3)


@pytest.mark.parametrize(("call", "answered"), [("fdatasync", 4), ("pwrite64", 1)])
def test_a_process_killed_inside_a_commit_loses_nothing_that_was_answered(logs, signer, call, answered):
    status, lines = traced(logs, f"{call}:signal=KILL:when=5")
    assert status != 0
    assert len(lines) == answered
    log = logs.open()
    assert answered <= log.size <= answered + 1
    log.close()
    assert verify_log(logs.home, signer.vkey).size == log.size


FILLER = """
import sys, time
from pathlib import Path
from audit.entry import Record, parse_entry
from audit.errors import LogUnavailable
from audit.log import Log
from audit.note import NoteSigner
from audit.receipt import verify_receipt
from audit.verify import verify_log
signer = NoteSigner("log.example/test", bytes(range(32)))
home = Path(sys.argv[1]) / "log"
log = Log.create(home, signer)
answered = []
try:
    while True:
        began = time.monotonic()
        answered += log.append([Record("decision", "p", "a", "r", {"pad": "x" * 60000})])
except LogUnavailable as failure:
    print(failure)
    assert time.monotonic() - began < 1
assert "No space left" in str(log._failure), log._failure
assert answered, "the disk was full before the first entry"
assert parse_entry(log.entry(log.size - 1)).kind == "log.full", log.size
size = log.size
assert 1 <= size - len(answered) <= 2  # the last but one may stand without an answer
log.close()
try:
    Log.open(home, signer)
except LogUnavailable as failure:
    print(failure)
else:
    raise AssertionError("opened on a full disk")
(Path(sys.argv[1]) / "ballast").unlink()
log = Log.open(home, signer)
assert log.append([Record("decision", "p", "a", "r")])[0].index == size
log.close()
receipts = [verify_receipt(done.receipt, done.entry, signer.vkey) for done in answered]
assert verify_log(home, signer.vkey, receipts=receipts).kinds == {"decision": size, "log.full": 1}
print("recovered")
"""


def test_a_disk_that_really_fills_up_stops_the_log_with_a_last_word(tmp_path):
    unshare = shutil.which("unshare")
    mount = f"mount -t tmpfs -o size=16m none {tmp_path}"
    if unshare is None or subprocess.run([unshare, "-Urm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no namespaces with a tmpfs of our own here: a disk is not filled")
    fill = f"{mount} && head -c 7000000 /dev/zero > {tmp_path}/ballast && exec {sys.executable} - {tmp_path}"
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", fill],
        input=FILLER,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "No space left on device; nothing more is logged" in done.stdout
    assert done.stdout.endswith("recovered\n")
