"""A log that can no longer be written: nothing more is released, and within two seconds all is told."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import LogUnavailable
from tests.processes.living import Living, eventually

pytestmark = pytest.mark.processes

NOTICED_WITHIN_S = 3.0  # promised: two seconds, on a machine with nothing else to do

Tampering = Callable[[Living], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def file_replaced(appliance: Living) -> Iterator[None]:
    """The same bytes under the same name, but another file: entries would go to one that nobody reads."""
    wal, aside = appliance.home / "log" / "wal", appliance.home / "wal.aside"
    wal.rename(aside)
    shutil.copy2(aside, wal)
    yield
    aside.rename(wal)


@contextlib.contextmanager
def folder_moved(appliance: Living) -> Iterator[None]:
    log = appliance.home / "log"
    log.rename(log.with_name("elsewhere"))
    yield
    log.with_name("elsewhere").rename(log)


@contextlib.contextmanager
def file_deleted(appliance: Living) -> Iterator[None]:
    wal, aside = appliance.home / "log" / "wal", appliance.home / "wal.aside"
    shutil.copy2(wal, aside)
    wal.unlink()
    yield
    aside.rename(wal)


@contextlib.contextmanager
def second_name(appliance: Living) -> Iterator[None]:
    """A hard link: another hand on the same bytes."""
    other = appliance.home / "other"
    os.link(appliance.home / "log" / "wal", other)
    yield
    other.unlink()


@contextlib.contextmanager
def write_bits_cleared(appliance: Living) -> Iterator[None]:
    """Root could write on; the bits are an operator's wish that the log be let alone."""
    wal = appliance.home / "log" / "wal"
    mode = wal.stat().st_mode
    wal.chmod(mode & ~0o222)
    yield
    wal.chmod(mode)


@contextlib.contextmanager
def written_to_by_another(appliance: Living) -> Iterator[None]:
    """One call, at whatever is the end then, and longer than what the log may be writing there just now."""
    foreign = bytes(1 << 18)
    fd = os.open(appliance.home / "log" / "wal", os.O_WRONLY | os.O_APPEND)
    try:
        assert os.write(fd, foreign) == len(foreign)
        end = os.lseek(fd, 0, os.SEEK_CUR)
        yield
        os.ftruncate(fd, end - len(foreign))
    finally:
        os.close(fd)


def injected(call: str, error: str) -> Tampering:
    """Let the kernel answer the custodian's own system call on the log's file with an error."""

    @contextlib.contextmanager
    def tampering(appliance: Living) -> Iterator[None]:
        wal = appliance.home / "log" / "wal"
        command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(appliance.pid), "-P", str(wal)]
        command += ["-e", f"trace={call}", "-e", f"inject={call}:error={error}"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            try:
                eventually(lambda: traced(appliance.pid) or strace.poll() is not None, "strace to attach")
                if strace.poll() is not None:
                    pytest.skip(f"strace cannot trace here: {strace.stderr.read()}")
                yield
            finally:
                strace.terminate()

    return tampering


def traced(pid: int) -> bool:
    return "\nTracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


needs_strace = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("strace") is None or os.getuid() != 0, reason="needs strace and root"),
]
WAYS = [
    pytest.param(file_replaced, id="file-replaced"),
    pytest.param(folder_moved, id="folder-moved"),
    pytest.param(file_deleted, id="file-deleted"),
    pytest.param(second_name, id="second-name"),
    pytest.param(write_bits_cleared, id="write-bits-cleared"),
    pytest.param(written_to_by_another, id="written-to-by-another"),
    pytest.param(injected("fdatasync", "EIO"), id="EIO", marks=needs_strace),
    pytest.param(injected("pwrite64", "ENOSPC"), id="ENOSPC", marks=needs_strace),
]


@pytest.mark.parametrize("tampering", WAYS)
def test_a_log_made_unwritable_in_mid_training_ends_the_job_and_releases_nothing(
    living: Living, tampering: Tampering
):
    job = living.train("endless")
    events = living.events(job)  # watched from before: a new watcher is a decision, which cannot be logged
    next(event for event in events if event["kind"] == "checkpoint")
    with tampering(living):
        began = time.monotonic()
        *_, ended = events
        waited = time.monotonic() - began
        assert ended["kind"] == "failed"
        assert ended["reason"].startswith("log-unavailable")
        assert waited < NOTICED_WITHIN_S
        size = living.call("Status")["log_size"]
        assert living.children("appliance.worker") == []
        refused = living.cli("train", "tiny")
        assert refused.returncode == 17, refused.stderr
        assert "the log has stopped" in refused.stderr
        with pytest.raises(LogUnavailable):
            list(living.stream("Sample", sample_of("tiny")))
        status = living.call("Status")
        assert not status["log_alive"]
        assert status["log_size"] == size
        assert status["jobs_running"] == []
    # Mended, it still takes a start, and so the recovery, to be believed again.
    assert living.cli("train", "tiny").returncode == 17
    living.kill()
    living.start().unseal()
    assert living.last_word(living.train("tiny"))["kind"] == "done"
    living.shutdown()
    living.demand_sound_log()
    living.demand_nothing_half_written()
    demand_nothing_opened_between(living, size)


def sample_of(model: str) -> dict[str, object]:
    return {"model": model, "prompt": "T", "length": 4, "temperature": 1.0, "top_k": 0, "seed": 1}


def demand_nothing_opened_between(appliance: Living, size: int) -> None:
    """From the tampering to the next start, the log tells of no output and no use of any object."""
    later = [json.loads(line) for line in appliance.entries().splitlines()][size:]
    kinds = [entry["kind"] for entry in later]
    until = kinds.index("started")
    assert set(kinds[:until]) <= {"log.full", "job-ended"}, kinds[:until]
