"""Clients that misbehave are their own trouble: whoever speaks properly is served meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from appliance.client import SOCKET_NAME, connect
from appliance.errors import ApplianceError, Busy
from tests.processes.conftest import Template
from tests.processes.living import Living, copy_home, eventually

pytestmark = pytest.mark.processes

SERVED_WITHIN_S = 5.0
CROWD = 100


@pytest.fixture(scope="module")
def shared(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    """One appliance: what one client does to it must not be seen by the next test's."""
    appliance = Living(copy_home(template.home, tmp_path_factory.mktemp("clients") / "home"), template.public)
    try:
        front = appliance.start().unseal().children("appliance.front")
        yield appliance
        assert appliance.children("appliance.front") == front, "the front fell over"
        appliance.shutdown()
        appliance.demand_sound_log()
    finally:
        appliance.kill()


def raw(appliance: Living) -> socket.socket:
    """A connection that says nothing by itself."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(appliance.home / "run", os.O_PATH | os.O_DIRECTORY)
    try:
        sock.connect(str(Path(f"/proc/self/fd/{folder}") / SOCKET_NAME))
    finally:
        os.close(folder)
    sock.settimeout(
        20
    )  # only now: a full backlog would fail a connect that has a timeout, instead of waiting
    return sock


def demand_served(appliance: Living) -> None:
    began = time.monotonic()
    assert appliance.call("Status")["pid"] == appliance.pid
    assert time.monotonic() - began < SERVED_WITHIN_S


def ask(appliance: Living) -> str:
    try:
        with connect(appliance.home) as client:
            assert client.call("Status")["pid"] == appliance.pid
    except Busy:
        return "busy"
    return "served"


def send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError, TimeoutError):
        sock.sendall(data)


@pytest.mark.parametrize(
    "garbage",
    [
        os.urandom(4096) + b"\0",
        b"\0" * 1000,
        b"[" * 100_000 + b"\0",
        b'{"method":"invalid.appliance.Train","parameters":{"config":1}}\0',
        b'{"method":"invalid.appliance.Unseal","parameters":{"secret_fd":7}}\0',
        b'{"method":"invalid.appliance.Unseal","parameters":{"secret_fd":-1}}\0',
        b'{"method":"invalid.appliance.Destroy","parameters":{}}\0',
        b'{"method":"invalid.appliance.Status","parameters":{},"x":NaN}\0',
    ],
    ids=[
        "noise",
        "empty",
        "deep",
        "wrong-type",
        "no-descriptor",
        "negative",
        "unknown-method",
        "not-a-number",
    ],
)
def test_garbage_gets_an_error_or_the_door(shared: Living, garbage: bytes):
    with raw(shared) as sock:
        send(sock, garbage)
        sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(65536):
                answer += data
    assert not answer or b'"error"' in answer
    assert b"Traceback" not in answer
    demand_served(shared)
    assert not shared.call("Status")["jobs_running"]


def test_a_huge_message_is_cut_off(shared: Living):
    with raw(shared) as sock:
        for _ in range(8):
            send(sock, b"x" * (1 << 20))
            demand_served(shared)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""  # hung up, not kept


def test_half_a_message_and_silence_keep_nobody_waiting(shared: Living):
    with ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(raw(shared))
            send(sock, b'{"method":"invalid.appliance.Status","par')
            demand_served(shared)


def test_a_client_that_never_reads_keeps_nobody_waiting(shared: Living):
    with raw(shared) as sock:
        sock.setblocking(False)
        send(sock, b'{"method":"invalid.appliance.Status","parameters":{}}\0' * 2000)
        demand_served(shared)


@pytest.mark.parametrize("said", [b"", b'{"method":'], ids=["mute", "half-a-message"])
def test_a_crowd_of_idle_connections_shuts_nobody_out(shared: Living, said: bytes):
    with connect(shared.home, timeout_s=20) as early, ExitStack() as stack:
        assert early.call("Status")
        for _ in range(CROWD):
            send(stack.enter_context(raw(shared)), said)
        assert early.call("Status")["pid"] == shared.pid
        eventually(lambda: ask(shared) == "served", "a newcomer to be served", SERVED_WITHIN_S)
    eventually(lambda: ask(shared) == "served", "the crowd to be forgotten", SERVED_WITHIN_S)


def test_a_hundred_clients_at_once_are_served_or_told_to_come_back(shared: Living):
    with ThreadPoolExecutor(CROWD) as crowd:
        answers = list(crowd.map(lambda _: ask(shared), range(CROWD)))
    assert set(answers) <= {"served", "busy"}
    assert answers.count("served") >= 64, answers


def test_a_client_that_leaves_in_the_middle_of_a_stream_ends_nothing(living: Living):
    job = living.train("endless")
    for _ in range(5):
        with raw(living) as sock:
            watch = b'{"method":"invalid.appliance.Watch","parameters":{"job":"%s","after":0},"more":true}\0'
            send(sock, watch % job.encode())
            assert b"started" in sock.recv(65536)
    assert living.wait_for(job, "checkpoint")
    assert living.call("Status")["jobs_running"] == [job]


def test_a_folder_that_is_no_bundle_is_refused_by_its_contents(shared: Living, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for path, flags in ((tmp_path, os.O_RDONLY), (tmp_path / "file", os.O_RDONLY)):
        descriptor = os.open(path, flags)
        try:
            with pytest.raises(ApplianceError, match="expected"):
                shared.call("ImportBundle", {"folder_fd": 0}, (descriptor,))
        finally:
            os.close(descriptor)
    demand_served(shared)
