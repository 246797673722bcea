"""The front as clients and the custodian meet it: a real process, real sockets, independent clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import varlink

from appliance import client as client_module
from appliance.connection import Limits
from appliance.errors import Busy, NotRunning, PolicyRefused, ProtocolError
from appliance.front import Front
from appliance.frontlink import FROM_FRONT, Call, ClientClosed, ClientOpened, Disconnect, Failure, Reply
from appliance.messages import Channel
from appliance.varlink import load_interface
from tests import jails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.processes

EVENT = {"seq": 1, "kind": "progress", "step": 1, "steps": 2, "loss": 2.5, "elapsed_s": 0.5}


class Custodian:
    """The smallest custodian: shows what it is sent, answers a few methods."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.uids: dict[int, int] = {}
        self.calls: list[Call] = []
        self.closed: list[int] = []
        self.read: list[bytes] = []
        self.answers: dict[str, Callable[[Call], None]] = {
            "TreeHead": lambda call: self.reply(call, {"note": "a note"}),
            "Stop": lambda call: self.reply(call, {"state": str(call.parameters["job"])}),
            "Watch": self.watch,
            "Seal": self.refuse,
            "Shutdown": lambda call: self.reply(call, {"unknown": 1}),
            "ListJobs": self.flood,
        }
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with contextlib.suppress(EOFError):
            while True:
                message, fds = self.channel.receive(FROM_FRONT)
                if isinstance(message, ClientOpened):
                    with socket.socket(fileno=fds[0]) as shown:
                        credentials = shown.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                    self.uids[message.conn] = struct.unpack("iII", credentials)[1]
                elif isinstance(message, ClientClosed):
                    self.closed.append(message.conn)
                else:
                    self.calls.append(message)
                    for fd in fds:
                        with os.fdopen(fd, "rb") as stream:
                            self.read.append(stream.read())
                    if message.method == "Unseal":
                        self.reply(message, {})
                    elif message.method in self.answers:
                        self.answers[message.method](message)

    def reply(self, call: Call, parameters: dict[str, Any], *, continues: bool = False) -> None:
        self.channel.send(Reply(call.conn, call.serial, parameters, continues))

    def refuse(self, call: Call) -> None:
        told = {"code": "policy", "exit_code": 8, "message": "expected two approvals, found one"}
        self.channel.send(Failure(call.conn, call.serial, "Refused", told))

    def watch(self, call: Call) -> None:
        if call.parameters["job"] == "endless":
            self.reply(call, {"event": EVENT}, continues=True)
            return
        for seq in range(1, 4):
            self.reply(call, {"event": {**EVENT, "seq": seq}}, continues=True)
        self.reply(call, {})

    def flood(self, call: Call) -> None:
        job = dict.fromkeys(("id", "name", "state", "owner", "config", "created"), "")
        job |= {"step": 0, "steps": 0, "results": [], "reason": "x" * 100_000}
        with contextlib.suppress(EOFError):
            for _ in range(100):  # 10 MB that nobody reads
                self.reply(call, {"job": job}, continues=True)


class Running:
    """A front process, its custodian, and the way to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = str(home / "run" / "appliance.sock")
        self.errors = home / "stderr"
        listener = client_module.listen(home / "run")
        channel, theirs = Channel.pair()
        with self.errors.open("wb") as errors:
            sources = [theirs.fileno(), listener.fileno(), errors.fileno()]
            lifted = [os.dup2(fd, 100 + n, inheritable=False) for n, fd in enumerate(sources)]
        self.pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", "appliance.front", jails.profile()],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for fd, n in zip(lifted, (3, 4, 2), strict=True)],
        )
        for fd in lifted:
            os.close(fd)
        listener.close()
        theirs.close()
        self.custodian = Custodian(channel)

    def connect(self) -> client_module.Client:
        return client_module.connect(self.home, timeout_s=20)

    def raw(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(self.path)
        return sock

    def end(self) -> int:
        """End the channel; return the front's exit status."""
        self.custodian.channel._sock.shutdown(socket.SHUT_RDWR)
        self.custodian.thread.join()
        _, status = os.waitpid(self.pid, 0)
        self.custodian.channel.close()
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def front(short_home: Path) -> Iterator[Running]:
    running = Running(short_home)
    yield running
    assert running.end() == 0, running.errors.read_text()


def settled(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true soon."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def ask(sock: socket.socket, text: str | bytes) -> bytes:
    """Send bytes, read until the front hangs up or an answer ends."""
    if text:
        sock.sendall(text.encode() if isinstance(text, str) else text)
    answer = b""
    while not answer.endswith(b"\0"):
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            break
        if not data:
            break
        answer += data
    return answer


def still_serves(front: Running) -> bool:
    with front.connect() as other:
        return other.call("TreeHead") == {"note": "a note"}


def test_a_call_is_answered_and_its_caller_known_by_the_kernel(front):
    with front.connect() as client:
        assert client.call("TreeHead") == {"note": "a note"}
        assert client.call("Stop", {"job": "a"}) == {"state": "a"}
    assert set(front.custodian.uids.values()) == {os.getuid()}
    assert [call.serial for call in front.custodian.calls] == [1, 2]
    assert settled(lambda: front.custodian.closed == [1])


def test_a_stream_is_followed_to_its_end(front):
    with front.connect() as client:
        events = list(client.stream("Watch", {"job": "j", "after": 0}))
        assert [reply["event"]["seq"] for reply in events] == [1, 2, 3]
        assert client.call("TreeHead") == {"note": "a note"}


def test_a_refusal_keeps_its_class_and_words_across_the_socket(front):
    with front.connect() as client:
        with pytest.raises(PolicyRefused, match="expected two approvals, found one"):
            client.call("Seal")
        assert client.call("TreeHead") == {"note": "a note"}


def test_descriptors_reach_the_custodian(front):
    read, write = os.pipe()
    os.write(write, b"open sesame")
    os.close(write)
    with front.connect() as client:
        assert client.call("Unseal", {"secret_fd": 0}, (read,)) == {}
    os.close(read)
    assert front.custodian.read == [b"open sesame"]


@pytest.mark.parametrize("parameters", [{}, {"secret_fd": 1}, {"secret_fd": -1}, {"secret_fd": True}])
def test_a_descriptor_that_no_parameter_names_is_refused(front, parameters):
    read, write = os.pipe()
    with front.connect() as client:
        with pytest.raises(ProtocolError, match="InvalidParameter"):
            client.call("Unseal", parameters, (read,))
        assert client.call("TreeHead") == {"note": "a note"}
    os.close(read)
    with pytest.raises(BrokenPipeError):  # the front kept no copy of it
        os.write(write, b"x")
    os.close(write)
    assert [call.method for call in front.custodian.calls] == ["TreeHead"]


def test_the_varlink_package_understands_the_appliance(front):
    with varlink.Client(address=f"unix:{front.path}") as remote:
        assert remote.get_interfaces() == ["org.varlink.service", "invalid.appliance"] or remote.info
        with remote.open("invalid.appliance") as appliance:
            assert appliance.TreeHead() == {"note": "a note"}
            events = [reply["event"] for reply in appliance.Watch("j", 0, _more=True) if reply.get("event")]
            assert [event["seq"] for event in events] == [1, 2, 3]
            with pytest.raises(varlink.VarlinkError, match="Refused") as refused:
                appliance.Seal()
            assert refused.value.parameters()["code"] == "policy"


def test_socat_gets_its_answer_after_it_closed_its_sending_side(front):
    call = b'{"method":"invalid.appliance.TreeHead"}\0'
    done = subprocess.run(
        ["socat", "-t", "10", "-", f"UNIX-CONNECT:{front.path}"], input=call, capture_output=True, check=True
    )
    assert json.loads(done.stdout.rstrip(b"\0")) == {"parameters": {"note": "a note"}}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"method": "Nothing"}, "InterfaceNotFound"),
        ({"method": "other.interface.Status"}, "InterfaceNotFound"),
        ({"method": "invalid.appliance.Nothing"}, "MethodNotFound"),
        ({"method": "org.varlink.service.Nothing"}, "MethodNotFound"),
        ({"method": "invalid.appliance.Stop"}, "InvalidParameter"),
        ({"method": "invalid.appliance.Stop", "parameters": {"job": 1}}, "InvalidParameter"),
        ({"method": "invalid.appliance.Stop", "parameters": {"job": "a", "x": 1}}, "InvalidParameter"),
        ({"method": "invalid.appliance.ListJobs"}, "ExpectedMore"),
        ({"method": "invalid.appliance.Stop", "parameters": {"job": "a" * 200_000}}, "InvalidParameter"),
        (
            {"method": "org.varlink.service.GetInterfaceDescription", "parameters": {"interface": "x.y"}},
            "InterfaceNotFound",
        ),
    ],
)
def test_a_call_outside_the_interface_is_refused_and_the_next_is_served(front, call, error):
    with front.raw() as sock:
        assert json.loads(ask(sock, json.dumps(call) + "\0")[:-1])["error"] == f"org.varlink.service.{error}"
        assert b"a note" in ask(sock, '{"method":"invalid.appliance.TreeHead"}\0')
    assert [call.method for call in front.custodian.calls] == ["TreeHead"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0",
        b"\xff\xfe\0",
        b"GET / HTTP/1.1\r\n\r\n\0",
        b'{"method":1}\0',
        b'{"method":"invalid.appliance.TreeHead","x":1}\0',
        b'{"method":"invalid.appliance.TreeHead","upgrade":true}\0',
        b'{"method":"a","method":"b"}\0',
        b"[" * 100_000 + b"\0",
        b'{"a":' * 20 + b"1" + b"}" * 20 + b"\0",
        b'{"method":"\\ud800"}\0',
        b"9" * 100_000 + b"\0",
        b"NaN\0",
    ],
)
def test_garbage_is_answered_once_then_the_connection_ends(front, garbage):
    with front.raw() as sock:
        assert b"org.varlink.service.InvalidParameter" in ask(sock, garbage)
        assert ask(sock, b"") == b""
    assert front.custodian.calls == []
    assert still_serves(front)


def test_a_message_over_one_mebibyte_ends_the_connection(front):
    with front.raw() as sock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        assert ask(sock, b"x" * (1024 * 1024 + 70_000)) == b""
    assert front.custodian.calls == []
    assert still_serves(front)


def test_calls_sent_ahead_are_answered_in_order_one_at_a_time(front):
    calls = [
        json.dumps({"method": "invalid.appliance.Stop", "parameters": {"job": str(n)}}) for n in range(50)
    ]
    with front.raw() as sock:
        sock.sendall("".join(call + "\0" for call in calls).encode())
        answer = b""
        while answer.count(b"\0") < 50:
            answer += sock.recv(65536)
    assert [json.loads(part)["parameters"]["state"] for part in answer.split(b"\0")[:-1]] == [
        str(n) for n in range(50)
    ]


def test_a_client_that_leaves_in_mid_call_is_reported(front):
    with front.connect() as client:
        stream = client.stream("Watch", {"job": "endless", "after": 0})
        next(stream)
        stream.close()
    assert settled(lambda: front.custodian.closed == [1])
    assert still_serves(front)


def test_a_client_that_reads_no_answers_is_dropped(front):
    with front.raw() as sock:
        sock.sendall(b'{"method":"invalid.appliance.ListJobs","more":true}\0')
        assert settled(lambda: front.custodian.closed == [1])
    assert still_serves(front)


def test_answers_that_break_the_interface_are_not_passed_on(front):
    with front.connect() as client:
        with pytest.raises(Exception, match="an answer broke the interface"):
            client.call("Shutdown")
        assert client.call("TreeHead") == {"note": "a note"}
    assert "expected no such field in unknown" in front.errors.read_text()


def test_the_custodian_can_end_a_connection(front):
    front.custodian.answers["Stop"] = lambda call: front.custodian.channel.send(Disconnect(call.conn))
    with front.connect() as client, pytest.raises(NotRunning, match="found that the appliance ended"):
        client.call("Stop", {"job": "a"})
    assert still_serves(front)


def test_a_oneway_call_arrives_and_is_not_answered(front):
    with front.raw() as sock:
        call = '{"method":"invalid.appliance.TreeHead","oneway":true}\0'
        other = '{"method":"invalid.appliance.Stop","parameters":{"job":"next"}}\0'
        assert json.loads(ask(sock, call + other)[:-1]) == {"parameters": {"state": "next"}}
    assert [call.oneway for call in front.custodian.calls] == [True, False]


def test_the_sixty_fifth_client_is_told_to_come_back(front):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(front.connect()) for _ in range(64)]
        for each in clients:
            each.call("TreeHead")
        with front.connect() as late, pytest.raises(Busy, match="at most 64 clients"):
            late.call("TreeHead")
    assert settled(lambda: len(front.custodian.closed) == 64)
    assert still_serves(front)


def test_the_front_is_jailed_before_its_first_client(front):
    assert still_serves(front)
    status = Path(f"/proc/{front.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_a_client_that_left_while_it_sent_half_a_message_is_forgotten(front):
    with front.raw() as sock:
        sock.sendall(b'{"method":"invalid.app')
    assert settled(lambda: front.custodian.closed == [1])
    assert still_serves(front)


def test_a_front_that_was_killed_reads_as_the_end_of_the_channel(short_home):
    running = Running(short_home)
    assert still_serves(running)
    os.kill(running.pid, signal.SIGKILL)
    running.custodian.thread.join(10)
    assert not running.custodian.thread.is_alive()
    with pytest.raises(NotRunning, match=r"no appliance in .*: make one with `appliance init`"):
        running.connect()
    assert running.end() == -signal.SIGKILL


# Patience runs out: the same front in this process, with limits that a test can wait for.

HASTY = Limits(unfinished_s=0.2, silent_s=0.3, waiting_bytes=1000, unread_bytes=300_000, clients=4)


@pytest.fixture
def hasty(short_home: Path) -> Iterator[str]:
    listener = client_module.listen(short_home / "run")
    channel, theirs = Channel.pair()
    front = Front(Channel(theirs), listener, load_interface(), HASTY)
    thread = threading.Thread(target=lambda: asyncio.run(front.serve()))
    thread.start()
    custodian = Custodian(channel)
    yield str(short_home / "run" / "appliance.sock")
    channel._sock.shutdown(socket.SHUT_RDWR)
    thread.join()
    custodian.thread.join()
    for sock in (listener, channel, theirs):
        sock.close()


@pytest.mark.parametrize(
    "sent",
    [b"", b"{", b'{"method":"invalid.appliance.TreeHead"}\0{', b'{"method":"invalid.appliance.Request"'],
)
def test_a_client_that_hangs_in_the_middle_is_dropped(hasty, sent):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hasty)
        sock.sendall(sent)
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(65536):
                pass
        assert 0.1 < time.monotonic() - began < 3


def test_a_slow_drip_does_not_extend_the_deadline(hasty):
    def drip() -> None:
        while time.monotonic() - began < 5:
            sock.sendall(b" ")
            time.sleep(0.02)

    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(hasty)
        began = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip()
        assert time.monotonic() - began < 3


def test_a_client_between_two_calls_is_left_alone(hasty):
    call = b'{"method":"invalid.appliance.TreeHead"}\0'
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hasty)
        assert b"a note" in ask(sock, call)
        time.sleep(0.6)
        assert b"a note" in ask(sock, call)


def test_a_client_far_ahead_of_its_answers_is_dropped(hasty):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hasty)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(b'{"method":"invalid.appliance.TreeHead","oneway":true}\0' * 200)
            assert sock.recv(100) == b""


def test_descriptors_beside_two_messages_end_the_connection(hasty):
    call = b'{"method":"invalid.appliance.Unseal","parameters":{"secret_fd":0}}\0'
    read, write = os.pipe()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hasty)
        socket.send_fds(sock, [call + call], [read])
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    os.close(read)
    with pytest.raises(BrokenPipeError):
        os.write(write, b"x")
    os.close(write)


def test_seventeen_descriptors_end_the_connection(hasty):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(hasty)
        socket.send_fds(sock, [b'{"method":"invalid.appliance.Seal"}\0'], [0] * 17)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
