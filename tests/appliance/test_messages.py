"""Typed packets between processes that do not trust each other."""

import array
import asyncio
import json
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import frontlink
from appliance.errors import ProtocolError
from appliance.messages import JSON, MAX_FDS, MAX_MESSAGE, Channel, decode, encode, kinds
from appliance.strictjson import MAX_INT, MIN_INT


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    flags: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Everything:
    count: int
    share: float
    name: str
    on: bool
    blob: bytes
    mode: Literal["a", "b"]
    names: tuple[str, ...]
    maybe: int | None
    inner: Inner
    rows: tuple[Inner, ...]
    free: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Blob:
    data: bytes


@dataclass(frozen=True, slots=True)
class Empty:
    pass


KINDS = kinds(Everything, Empty, Blob)
INNERS = st.builds(Inner, st.text(max_size=5), st.lists(st.booleans(), max_size=3).map(tuple))
MESSAGES = st.builds(
    Everything,
    count=st.integers(MIN_INT, MAX_INT),
    share=st.floats(allow_nan=False, allow_infinity=False),
    name=st.text(max_size=10),
    on=st.booleans(),
    blob=st.binary(max_size=10),
    mode=st.sampled_from(["a", "b"]),
    names=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    maybe=st.none() | st.integers(0, 5),
    inner=INNERS,
    rows=st.lists(INNERS, max_size=2).map(tuple),
    free=st.dictionaries(
        st.text(max_size=3), st.none() | st.integers(0, 9) | st.text(max_size=3), max_size=3
    ),
)
SOUND = Everything(1, 0.5, "n", True, b"b", "a", ("x",), None, Inner("i", (True,)), (), {"k": [1]})


@pytest.fixture
def pair():
    ours, theirs = Channel.pair()
    far = Channel(theirs)
    yield ours, far
    ours.close()
    far.close()


@given(MESSAGES)
def test_a_message_arrives_as_it_was_sent(message):
    assert decode(encode(message), KINDS) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_protocol_error(data):
    try:
        message = decode(data, KINDS)
    except ProtocolError:
        return
    assert decode(encode(message), KINDS) == message


def test_every_flipped_byte_gives_another_message_or_a_protocol_error():
    data = encode(SOUND)
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1
        try:
            message = decode(bytes(flipped), KINDS)
        except ProtocolError:
            continue
        assert message != SOUND


def test_every_truncation_is_refused():
    data = encode(SOUND)
    for length in range(len(data)):
        with pytest.raises(ProtocolError):
            decode(data[:length], KINDS)


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("count", True, "int in Everything.count, found bool"),
        ("count", 1.0, "int in Everything.count, found float"),
        ("count", "1", "int in Everything.count, found str"),
        ("share", True, "a number in Everything.share, found bool"),
        ("share", "1", "a number in Everything.share, found str"),
        ("name", None, "str in Everything.name, found NoneType"),
        ("on", 1, "bool in Everything.on, found int"),
        ("blob", "!!", "base64 in Everything.blob"),
        ("blob", "YQ", "base64 in Everything.blob"),
        ("blob", "YR==", "canonical base64 in Everything.blob"),
        ("blob", "é", "base64 in Everything.blob"),
        ("mode", "c", "in Everything.mode"),
        ("mode", ["a"], "in Everything.mode"),
        ("names", "x", "a list in Everything.names"),
        ("names", [1], r"str in Everything.names\[0\], found int"),
        ("maybe", "1", "int in Everything.maybe"),
        ("inner", {"name": "x"}, "in Everything.inner exactly the fields"),
        ("inner", [], "an object in Everything.inner"),
        ("rows", [{"name": "x", "flags": [], "more": 1}], r"missing or unknown: \['more'\]"),
        ("free", [], "an object in Everything.free"),
    ],
)
def test_a_field_of_another_type_is_refused(field, value, found):
    raw = json.loads(encode(SOUND)) | {field: value}
    with pytest.raises(ProtocolError, match=found):
        decode(json.dumps(raw).encode(), KINDS)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("[]", "expected a message object, found list"),
        ("{}", "expected one of the kinds"),
        ('{"kind":["Empty"]}', "expected one of the kinds"),
        ('{"kind":"Call"}', "found 'Call'"),
        ('{"kind":"Empty","x":1}', r"missing or unknown: \['x'\]"),
        ('{"kind":"Blob"}', r"missing or unknown: \['data'\]"),
        ('{"kind":"Empty","kind":"Empty"}', "a name stands twice"),
    ],
)
def test_a_message_of_no_kind_expected_is_refused(raw, found):
    with pytest.raises(ProtocolError, match=found):
        decode(raw.encode(), KINDS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", 2**63), ("share", float("nan")), ("name", "\ud800"), ("blob", "text"), ("names", ["list"])],
)
def test_what_the_far_end_would_refuse_is_not_sent(field, value):
    values = {name: getattr(SOUND, name) for name in Everything.__slots__} | {field: value}
    with pytest.raises(ProtocolError):
        encode(Everything(**values))


def test_annotations_kept_as_text_are_refused_with_the_way_out():
    cls = dataclass(type("Late", (), {"__annotations__": {"x": "int"}}))
    with pytest.raises(ProtocolError, match="drop `from __future__ import annotations`"):
        encode(cls(1))


def test_every_kind_of_the_front_link_travels(pair):
    ours, far = pair
    sent = [
        (frontlink.ClientOpened(1), frontlink.FROM_FRONT),
        (
            frontlink.Call(1, 2, "Stop", {"job": "a", "deep": {"x": [1, None]}}, True, False),
            frontlink.FROM_FRONT,
        ),
        (frontlink.ClientClosed(1), frontlink.FROM_FRONT),
        (frontlink.Reply(1, 2, {"state": "done"}, False), frontlink.TO_FRONT),
        (frontlink.Failure(1, 2, "Refused", {"code": "policy"}), frontlink.TO_FRONT),
        (frontlink.Disconnect(1), frontlink.TO_FRONT),
    ]
    for message, expected in sent:
        ours.send(message)
        assert far.receive(expected) == (message, ())
    ours.send(frontlink.Reply(1, 2, {}, False))
    with pytest.raises(ProtocolError, match="found 'Reply'"):
        far.receive(frontlink.FROM_FRONT)


def test_descriptors_arrive_close_on_exec(pair):
    ours, far = pair
    read, write = os.pipe()
    ours.send(Empty(), (write,))
    os.close(write)
    _, (received,) = far.receive(KINDS)
    assert not os.get_inheritable(received)
    os.write(received, b"x")
    os.close(received)
    assert os.read(read, 2) == b"x"
    os.close(read)


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_sixteen_descriptors_pass_and_a_seventeenth_is_refused(pair):
    ours, far = pair
    before = open_descriptors()
    ours.send(Empty(), (0,) * MAX_FDS)
    _, fds = far.receive(KINDS)
    assert len(fds) == MAX_FDS
    for fd in fds:
        os.close(fd)
    with pytest.raises(ProtocolError, match="at most 16 descriptors"):
        ours.send(Empty(), (0,) * (MAX_FDS + 1))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (0,) * 17))]
    ours._sock.sendmsg([encode(Empty())], rights)
    with pytest.raises(ProtocolError, match="16 descriptors, found more"):
        far.receive(KINDS)
    assert open_descriptors() == before


@pytest.mark.parametrize("packet", [b"garbage", b'{"kind":"Empty","x":1}', b"x" * (MAX_MESSAGE + 1)])
def test_descriptors_beside_a_malformed_packet_are_closed(pair, packet):
    ours, far = pair
    before = open_descriptors()
    ours._sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 0]))])
    with pytest.raises(ProtocolError):
        far.receive(KINDS)
    assert open_descriptors() == before
    ours.send(Empty())
    assert far.receive(KINDS) == (Empty(), ())


def test_the_largest_message_passes_and_a_larger_one_is_refused(pair):
    ours, far = pair
    room = (MAX_MESSAGE - len(encode(Blob(b"")))) // 4 * 3
    ours.send(Blob(b"x" * room))
    assert far.receive(KINDS)[0] == Blob(b"x" * room)
    with pytest.raises(ProtocolError, match=f"a Blob of at most {MAX_MESSAGE} bytes"):
        ours.send(Blob(b"x" * (room + 3)))


def test_nothing_to_read_is_none_and_the_end_is_an_error(pair):
    ours, far = pair
    assert far.try_receive(KINDS) is None
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        far.receive(KINDS, timeout_s=0.01)
    ours.send(Empty())
    ours.close()
    assert far.receive(KINDS)[0] == Empty()
    with pytest.raises(EOFError):
        far.try_receive(KINDS)
    with pytest.raises(EOFError):
        far.send(Empty())


def test_a_far_end_that_closed_with_mail_unread_is_the_end_too(pair):
    ours, far = pair
    ours.send(Empty())
    far.close()
    with pytest.raises(EOFError):
        ours.receive(KINDS)


def test_last_words_arrive_though_the_far_end_left_mail_unread(pair):
    """A worker that refuses a file says so and ends, with our next message still in its queue."""
    ours, far = pair
    ours.send(Empty())
    far.send(Blob(b"refused"))
    far.close()
    assert ours.receive(KINDS)[0] == Blob(b"refused")
    with pytest.raises(EOFError):
        ours.receive(KINDS)


def test_a_far_end_that_does_not_read_blocks_nobody_for_ever(pair):
    ours, far = pair
    sent = 0
    while ours.try_send(Blob(b"x" * 50_000)):
        sent += 1
    assert sent > 0
    with pytest.raises(TimeoutError, match="found it silent"):
        ours.send(Empty(), timeout_s=0.01)
    for _ in range(sent):
        far.receive(KINDS)
    ours.send(Empty(), timeout_s=1)


def test_a_blocking_reader_wakes_when_something_comes(pair):
    ours, far = pair
    timer = threading.Timer(0.05, ours.send, [Empty()])
    timer.start()
    assert far.receive(KINDS, timeout_s=10) == (Empty(), ())
    timer.join()


def test_coroutines_share_a_channel_and_each_message_stays_whole(pair):
    ours, far = pair

    async def exchange():
        senders = [ours.send_async(Blob(bytes([n]) * 40_000)) for n in range(40)]
        readers = [far.receive_async(KINDS) for _ in range(40)]

        async def read_all():
            return [await reader for reader in readers]

        received, *_ = await asyncio.gather(read_all(), *senders)
        return [message.data for message, _ in received]

    assert sorted(asyncio.run(exchange())) == [bytes([n]) * 40_000 for n in range(40)]


def test_a_flood_leaves_the_loop_to_others(pair):
    ours, far = pair
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def drain():
        other = asyncio.ensure_future(count())
        for _ in range(20):
            ours.send(Empty())
        for _ in range(20):
            await far.receive_async(KINDS)
        other.cancel()

    asyncio.run(drain())
    assert turns >= 15


def test_a_stream_socket_is_no_channel():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ProtocolError, match="SOCK_SEQPACKET"):
        Channel(ours)


def test_an_inherited_channel_is_kept_from_children(pair):
    fd = os.dup(pair[0].fileno())
    os.set_inheritable(fd, True)
    channel = Channel.inherited(fd)
    assert not os.get_inheritable(fd)
    assert channel.peer_pid() == os.getpid()
    channel.close()
