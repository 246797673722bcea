"""The custodian under a service manager: its socket taken, ready told, alive while the watch looks."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.processes.living import ANSWER_S, Living, eventually

pytestmark = pytest.mark.processes

MANAGER = """
import os, socket, sys
run, notify = sys.argv[1:3]
folder = os.open(run, os.O_RDONLY)
bound = socket.socket(socket.AF_UNIX)
bound.bind(f"/proc/self/fd/{folder}/appliance.sock")
bound.listen()
os.dup2(bound.fileno(), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "NOTIFY_SOCKET": notify}
os.execv(sys.argv[3], sys.argv[3:])
"""


def test_a_managed_custodian_takes_the_socket_and_keeps_it_through_a_seal(asleep: Living, tmp_path: Path):
    address = f"@appliance-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}")
        manager.settimeout(ANSWER_S)
        (asleep.home / "run" / "appliance.sock").unlink(missing_ok=True)
        asleep.start(sys.executable, "-I", "-c", MANAGER, str(asleep.home / "run"), address)
        inode = (asleep.home / "run" / "appliance.sock").stat().st_ino
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        asleep.unseal()
        sealed = asleep.cli("seal", "--reason", "end of shift")
        assert sealed.returncode == 0, sealed.stderr
        eventually(lambda: asleep.call("Status")["sealed"], "the fresh process")
        assert (asleep.home / "run" / "appliance.sock").stat().st_ino == inode, (
            "the manager's socket was replaced"
        )
        asleep.shutdown()
        heard = b""
        while heard != b"STOPPING=1":
            heard = manager.recv(100)
