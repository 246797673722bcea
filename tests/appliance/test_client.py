"""Where the socket lies, who may reach it, and what a command line makes of its answers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from appliance.client import connect, listen
from appliance.errors import (
    ApplianceError,
    Busy,
    NotRunning,
    PolicyRefused,
    ProtocolError,
    UsageError,
    by_code,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Replay:
    """Accepts one client, reads one call, answers with prepared bytes and hangs up."""

    def __init__(self, home: Path, answer: bytes) -> None:
        self.listener = listen(home / "run")
        self.answer = answer
        self.heard = b""
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        sock, _ = self.listener.accept()
        with sock:
            while not self.heard.endswith(b"\0"):
                self.heard += sock.recv(65536)
            # A client that has read enough to refuse the answer hangs up.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(self.answer)

    def close(self) -> None:
        self.thread.join()
        self.listener.close()


@pytest.fixture
def replay(short_home: Path) -> Iterator[Any]:
    running: list[Replay] = []

    def start(*answers: object) -> Replay:
        data = b"".join(a if isinstance(a, bytes) else json.dumps(a).encode() + b"\0" for a in answers)
        running.append(Replay(short_home, data))
        return running[-1]

    yield start
    for each in running:
        each.close()


def refused(code: str) -> dict[str, Any]:
    parameters = {"code": code, "exit_code": 1, "message": "expected this, found that"}
    return {"error": "invalid.appliance.Refused", "parameters": parameters}


def test_the_socket_works_at_any_depth(tmp_path):
    home = tmp_path
    for _ in range(8):
        home /= "a-folder-with-a-long-name"
    home.mkdir(parents=True)
    assert len(str(home)) > 150
    listener = listen(home / "run")
    with connect(home):
        accepted, _ = listener.accept()
        accepted.close()
    listener.close()


@pytest.mark.parametrize(("group", "mode"), [(False, 0o600), (True, 0o660)])
def test_the_socket_is_closed_to_others_from_its_first_moment(short_home, group, mode, monkeypatch):
    monkeypatch.setattr(os, "chmod", None)
    before = os.umask(0o022)
    listener = listen(short_home / "run", group=group)
    assert os.umask(before) == 0o022
    assert stat.S_IMODE((short_home / "run/appliance.sock").stat().st_mode) == mode
    assert stat.S_IMODE((short_home / "run").stat().st_mode) & 0o027 == 0
    assert not os.get_inheritable(listener.fileno())
    listener.close()


def test_a_stale_socket_is_replaced(short_home):
    listen(short_home / "run").close()
    with pytest.raises(NotRunning):
        connect(short_home)
    listener = listen(short_home / "run")
    connect(short_home).close()
    listener.close()


def test_a_folder_that_others_can_write_to_is_refused(short_home):
    (short_home / "run").mkdir()
    (short_home / "run").chmod(0o777)
    with pytest.raises(UsageError, match="found it world-writable"):
        listen(short_home / "run")


def test_a_folder_that_is_a_link_is_refused(short_home):
    (short_home / "elsewhere").mkdir()
    (short_home / "run").symlink_to(short_home / "elsewhere")
    with pytest.raises(UsageError, match=r"expected .*run to be a folder of its own, found a link"):
        listen(short_home / "run")


@pytest.mark.parametrize("made", ["", "run", "run/appliance.sock"])
def test_an_appliance_that_is_not_there_is_said_with_the_next_step(short_home, made):
    if made:
        (short_home / "run").mkdir()
    if made.endswith("sock"):
        listen(short_home / "run").close()
    with pytest.raises(NotRunning, match=f"no appliance in {short_home}: make one with `appliance init`"):
        connect(short_home)
    (short_home / "home.json").touch()
    with pytest.raises(NotRunning, match=f"start it with `appliance --home {short_home} daemon --detach`"):
        connect(short_home)


def test_a_socket_that_is_closed_to_the_caller_is_said_so(short_home, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)  # root is let in everywhere
        with pytest.raises(PolicyRefused, match="found it closed to uid"):
            connect(short_home)


def test_a_call_is_sent_as_one_message_and_its_answer_returned(short_home, replay):
    server = replay({"parameters": {"note": "ü"}})
    with connect(short_home) as client:
        assert client.call("TreeHead", {"a": 1}) == {"note": "ü"}
    assert json.loads(server.heard[:-1]) == {"method": "invalid.appliance.TreeHead", "parameters": {"a": 1}}


def test_another_interface_is_called_by_its_full_name(short_home, replay):
    server = replay({})
    with connect(short_home) as client:
        assert client.call("org.varlink.service.GetInfo") == {}
    assert json.loads(server.heard[:-1])["method"] == "org.varlink.service.GetInfo"


@pytest.mark.parametrize("code", sorted(by_code()))
def test_each_error_comes_back_as_its_own_class(short_home, replay, code):
    replay(refused(code))
    with (
        connect(short_home) as client,
        pytest.raises(ApplianceError, match="expected this, found that") as got,
    ):
        client.call("Seal")
    assert type(got.value) is by_code()[code]


def test_an_error_code_of_a_later_version_is_still_an_error(short_home, replay):
    replay(refused("from-the-future"))
    with connect(short_home) as client, pytest.raises(ApplianceError, match="found that"):
        client.call("Seal")


def test_a_standard_error_is_a_protocol_error_that_names_it(short_home, replay):
    replay({"error": "org.varlink.service.MethodNotFound", "parameters": {"method": "x"}})
    with connect(short_home) as client, pytest.raises(ProtocolError, match="MethodNotFound"):
        client.call("Gone")


@pytest.mark.parametrize("answer", [b"", b'{"parameters":{}'])
def test_an_appliance_that_ends_in_mid_call_is_not_running(short_home, replay, answer):
    replay(answer)
    with connect(short_home) as client, pytest.raises(NotRunning, match="found that the appliance ended"):
        client.call("Seal")


@pytest.mark.parametrize("answer", [b"[]\0", b'{"parameters":1}\0', b"x\0", b"x" * (1024 * 1024 + 100_000)])
def test_an_answer_that_is_none_is_a_protocol_error(short_home, replay, answer):
    replay(answer)
    with connect(short_home) as client, pytest.raises(ProtocolError, match="expected"):
        client.call("Seal")


def test_a_stream_where_one_answer_was_expected_is_a_protocol_error(short_home, replay):
    replay({"parameters": {}, "continues": True})
    with connect(short_home) as client, pytest.raises(ProtocolError, match="use `stream`"):
        client.call("ListJobs")


def test_a_stream_yields_each_answer_but_the_empty_last_one(short_home, replay):
    more = [{"parameters": {"n": n}, "continues": True} for n in range(3)]
    server = replay(*more, {"parameters": {"n": None}})
    with connect(short_home) as client:
        assert [reply["n"] for reply in client.stream("ListJobs")] == [0, 1, 2]
    assert json.loads(server.heard[:-1])["more"] is True


def test_a_stream_may_end_with_an_answer_or_an_error(short_home, replay):
    replay({"parameters": {"n": 1}})
    with connect(short_home) as client:
        assert list(client.stream("ListJobs")) == [{"n": 1}]
    replay({"parameters": {"n": 1}, "continues": True}, refused("policy"))
    with connect(short_home) as client:
        stream = client.stream("ListJobs")
        assert next(stream) == {"n": 1}
        with pytest.raises(PolicyRefused):
            next(stream)


def test_leaving_a_stream_hangs_up(short_home, replay):
    replay({"parameters": {"n": 1}, "continues": True})
    client = connect(short_home)
    stream = client.stream("Watch")
    next(stream)
    stream.close()
    assert client._sock.fileno() == -1


def test_a_refusal_written_before_the_call_was_read_is_still_heard(short_home):
    listener = listen(short_home / "run")
    client = connect(short_home)
    sock, _ = listener.accept()
    sock.sendall(json.dumps(refused("busy")).encode() + b"\0")
    sock.close()
    with pytest.raises(Busy):
        client.call("Status")
    client.close()
    listener.close()


def test_waiting_for_an_answer_can_be_bounded(short_home):
    listener = listen(short_home / "run")
    with connect(short_home, timeout_s=0.05) as client, pytest.raises(Busy, match=r"within 0\.05 s"):
        client.call("Status")
    listener.close()


def test_descriptors_ride_on_the_call_even_when_it_is_large(short_home):
    listener = listen(short_home / "run")
    received: list[int] = []

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            data, fds, _, _ = socket.recv_fds(sock, 1000, 4)
            received.extend(fds)
            while not data.endswith(b"\0"):
                data = sock.recv(65536)
            sock.sendall(b"{}\0")

    thread = threading.Thread(target=serve)
    thread.start()
    with connect(short_home) as client:
        client.call("Approve", {"document": "x" * 900_000}, (0, 1))
    thread.join()
    assert len(received) == 2
    for fd in received:
        os.close(fd)
    listener.close()
