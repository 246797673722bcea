"""A service manager's three words and its socket, by the protocol that systemd documents."""

from __future__ import annotations

import json
import os
import socket
import sys

import pytest

from appliance.notify import ALIVE, READY, notify


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_each_word_as_a_datagram(tmp_path, abstract):
    address = f"@appliance-{os.getpid()}-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if abstract else address)
        manager.settimeout(10)
        notify(READY, {"NOTIFY_SOCKET": address})
        notify(ALIVE, {"NOTIFY_SOCKET": address})
        assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}])
def test_without_a_manager_nothing_happens(environment):
    notify(READY, environment)


def test_a_manager_that_is_gone_is_no_trouble(tmp_path):
    notify(READY, {"NOTIFY_SOCKET": str(tmp_path / "gone")})


TAKES = """
import json, os, sys
from appliance.errors import UsageError
from appliance.notify import inherited_listener
os.environ["LISTEN_PID"] = sys.argv[1].replace("own", str(os.getpid()))
try:
    found = inherited_listener()
except UsageError as refused:
    found = str(refused)
else:
    found = None if found is None else [found.getsockname(), os.get_inheritable(3)]
print(json.dumps(found))
"""


def takes(given: socket.socket, pid: str = "own", count: str = "1"):
    """What a process finds that was started as a manager starts it, with this socket as descriptor 3."""
    command = [sys.executable, "-I", "-c", TAKES, pid]
    read, write = os.pipe()
    child = os.posix_spawn(
        sys.executable,
        command,
        {"LISTEN_FDS": count},
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, given.fileno(), 3)],
    )
    os.close(write)
    with os.fdopen(read) as said:
        answer = json.loads(said.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return answer


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        bound.listen()
        yield bound


def test_the_manager_s_socket_is_taken_and_stays_for_the_next_process(listener):
    assert takes(listener) == [listener.getsockname(), True]


def test_a_socket_meant_for_another_process_is_left_alone(listener):
    assert takes(listener, pid="1") is None


def test_another_kind_of_socket_or_several_are_refused(listener):
    assert "expected one socket" in takes(listener, count="2")
    one, other = socket.socketpair()
    with one, other:
        assert "expected a listening Unix socket" in takes(one)
