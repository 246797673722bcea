"""A worker that gets no sign of life from the watch ends itself, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

SHORT_S, LONG_S = 0.2, 2.0
BUSY = """
import sys
from appliance.worker.heart import follow
follow(int(sys.argv[1]), float(sys.argv[2]))
print("follows", flush=True)
while True:
    sum(range(1000))
"""


@pytest.fixture(params=[SHORT_S])
def busy(request):
    """A worker that computes, and the pipe that keeps it alive."""
    theirs, ours = os.pipe()
    command = [sys.executable, "-I", "-c", BUSY, str(theirs), str(request.param)]
    with subprocess.Popen(command, pass_fds=[theirs], stdout=subprocess.PIPE) as process:
        os.close(theirs)
        assert process.stdout.readline() == b"follows\n"
        yield process, ours
        process.kill()
    os.close(ours)


@pytest.mark.parametrize("busy", [LONG_S], indirect=True)
def test_a_worker_whose_watch_beats_goes_on(busy):
    process, ours = busy
    until = time.monotonic() + 1.2 * LONG_S
    while time.monotonic() < until:
        os.write(ours, b"\0")
        time.sleep(LONG_S / 40)
    assert process.poll() is None


def test_a_worker_whose_watch_is_silent_ends(busy):
    process, _ = busy
    assert process.wait(timeout=30) == -signal.SIGKILL


def test_a_worker_whose_custodian_closed_the_pipe_ends_at_once(busy):
    process, ours = busy
    spare = os.open(os.devnull, os.O_RDONLY)
    os.dup2(spare, ours)
    os.close(spare)
    assert process.wait(timeout=30) == -signal.SIGKILL
