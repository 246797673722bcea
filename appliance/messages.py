"""Typed, bounded messages between the custodian and the processes it started.

Guarantees, to both ends of a SOCK_SEQPACKET socketpair: one packet is one message of a kind the receiver
named, each field has exactly its declared type, nothing is missing or added, and no packet exceeds
MAX_MESSAGE bytes or MAX_FDS descriptors. Whatever breaks that is a ProtocolError, and descriptors that came
with it are closed. The neighbour is not trusted: a captured front or worker may send any bytes it likes.

A message is a frozen dataclass, sent as JSON beside its class name: {"kind": "Call", "conn": 3, ...}.
Field types: int, float (finite), str, bool, bytes (base64), Literal["a", "b"], tuple[T, ...], X | None,
another such dataclass, and Mapping[str, JSON]. Annotations are evaluated, so a module that defines messages
does without `from __future__ import annotations`.

Source: unix(7) for packet boundaries and SCM_RIGHTS.
"""

from __future__ import annotations

import array
import asyncio
import base64
import binascii
import contextlib
import dataclasses
import functools
import os
import select
import socket
import struct
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from appliance.errors import ProtocolError
from appliance.strictjson import JSON, encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "JSON",
    "MAX_FDS",
    "MAX_MESSAGE",
    "Channel",
    "Kinds",
    "close_fds",
    "decode",
    "encode",
    "kinds",
    "received_fds",
]

MAX_MESSAGE = 128 * 1024  # fits the 208 KiB that Linux grants a socket buffer by default
MAX_FDS = 16
_PEERCRED = struct.Struct("iII")  # pid, uid, gid
_SEND_BUFFER = 1024 * 1024  # asked for; granted up to net.core.wmem_max

Kinds: TypeAlias = Mapping[str, type[Any]]


def kinds(*classes: type[Any]) -> dict[str, type[Any]]:
    """Make the table of messages that one end accepts, by class name."""
    return {cls.__name__: cls for cls in classes}


def encode(message: Any) -> bytes:
    """Encode one message; refuses fields that are not what their annotation says. Raises ProtocolError."""
    cls = type(message)
    with _told_of(cls):
        fields = _dump(message, cls)
    data = encode_json({"kind": cls.__name__} | fields)
    if len(data) > MAX_MESSAGE:
        raise ProtocolError(f"expected a {cls.__name__} of at most {MAX_MESSAGE} bytes, found {len(data)}")
    return data


def decode(data: bytes, kinds: Kinds) -> Any:
    """Parse one packet into a message of one of `kinds`. Raises ProtocolError."""
    value = parse_json(data, limit=MAX_MESSAGE)
    if not isinstance(value, dict):
        raise ProtocolError(f"expected a message object, found {type(value).__name__}")
    kind = value.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise ProtocolError(f"expected one of the kinds {sorted(kinds)}, found {kind!r:.80}")
    with _told_of(kinds[kind]):
        return _load(value, kinds[kind])


def close_fds(fds: Sequence[int]) -> None:
    """Close descriptors; one that is closed already is no error."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Channel:
    """One end of a SOCK_SEQPACKET pair. Descriptors given to `send` stay the caller's to close.

    The far end's absence is EOFError, from every method, whether it closed, crashed or was killed.
    """

    def __init__(self, sock: socket.socket) -> None:
        if sock.type != socket.SOCK_SEQPACKET:
            raise ProtocolError(f"expected a SOCK_SEQPACKET socket for a channel, found {sock.type!r}")
        sock.setblocking(False)
        self._sock = sock
        self._sending = asyncio.Lock()
        self._flooded = False  # the last message was there before it was waited for

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Make a channel and the far end's socket, to be passed to a child and closed here."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        return cls(ours), theirs

    @classmethod
    def inherited(cls, fd: int) -> Channel:
        """Take over a descriptor that the parent left open for this process, kept from its own children."""
        os.set_inheritable(fd, False)
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._sock.fileno()

    def peer_pid(self) -> int | None:
        """Return who made the pair, as the kernel saw it; None from another PID namespace."""
        credentials = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        return _PEERCRED.unpack(credentials)[0] or None

    def close(self) -> None:
        """Close this end."""
        self._sock.close()

    def try_send(self, message: Any, fds: Sequence[int] = ()) -> bool:
        """Send without waiting; False when the far end reads too slowly. Raises EOFError, ProtocolError."""
        if len(fds) > MAX_FDS:
            raise ProtocolError(f"expected at most {MAX_FDS} descriptors beside a message, found {len(fds)}")
        data = encode(message)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError("the far end of the channel is gone") from error
        return True

    def send(self, message: Any, fds: Sequence[int] = (), timeout_s: float | None = None) -> None:
        """Send, waiting for room. Raises EOFError, ProtocolError, TimeoutError after `timeout_s`."""
        while not self.try_send(message, fds):
            self._wait(select.POLLOUT, timeout_s)

    async def send_async(self, message: Any, fds: Sequence[int] = ()) -> None:
        """Send from a coroutine; several may call at once, each message stays whole. Raises as `send`."""
        loop = asyncio.get_running_loop()
        async with self._sending:
            while not self.try_send(message, fds):
                await self._ready(loop.add_writer, loop.remove_writer)

    def try_receive(self, kinds: Kinds) -> tuple[Any, tuple[int, ...]] | None:
        """Return the next message and its descriptors (close-on-exec, now the caller's), or None.

        Raises EOFError at the end, ProtocolError for anything malformed; descriptors are closed then.
        """
        try:
            data, control, flags = self._next_packet()
        except BlockingIOError:
            return None
        except ConnectionResetError as error:
            raise EOFError("the far end of the channel is gone") from error
        fds = received_fds(control)
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError(
                    f"expected at most {MAX_MESSAGE} bytes and {MAX_FDS} descriptors, found more"
                )
            if not data:
                raise EOFError("the far end of the channel is closed")
            return decode(data, kinds), fds
        except BaseException:
            close_fds(fds)
            raise

    def _next_packet(self) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        try:
            return self._sock.recvmsg(MAX_MESSAGE + 1, space, socket.MSG_CMSG_CLOEXEC)[:3]
        except ConnectionResetError:
            # It ended with packets of ours unread. The kernel says so once, ahead of what it had sent before:
            # its last words stand in the queue behind this error.
            return self._sock.recvmsg(MAX_MESSAGE + 1, space, socket.MSG_CMSG_CLOEXEC)[:3]

    def receive(self, kinds: Kinds, timeout_s: float | None = None) -> tuple[Any, tuple[int, ...]]:
        """Wait for the next message. Raises as `try_receive`, TimeoutError after `timeout_s`."""
        while (got := self.try_receive(kinds)) is None:
            self._wait(select.POLLIN, timeout_s)
        return got

    async def receive_async(self, kinds: Kinds) -> tuple[Any, tuple[int, ...]]:
        """Wait for the next message in a coroutine; one reader at a time. Raises as `try_receive`."""
        if self._flooded:
            await asyncio.sleep(0)  # a far end that floods must not keep the loop from everyone else
        self._flooded = True
        loop = asyncio.get_running_loop()
        while (got := self.try_receive(kinds)) is None:
            self._flooded = False
            await self._ready(loop.add_reader, loop.remove_reader)
        return got

    def _wait(self, events: int, timeout_s: float | None) -> None:
        poll = select.poll()
        poll.register(self._sock, events)
        if not poll.poll(None if timeout_s is None else timeout_s * 1000):
            raise TimeoutError(f"expected the far end to answer within {timeout_s} s, found it silent")

    async def _ready(self, add: Callable[..., None], remove: Callable[[int], bool]) -> None:
        ready = asyncio.get_running_loop().create_future()
        add(self.fileno(), _set, ready)
        try:
            await ready
        finally:
            remove(self.fileno())


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def received_fds(control: Sequence[tuple[int, int, bytes]]) -> tuple[int, ...]:
    """Return the descriptors in what `recvmsg` gave as ancillary data."""
    fds = array.array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return tuple(fds)


# The codec: each annotation becomes a pair of converters, resolved once per class. Where a value stands is
# worked out only if it is not what its annotation says.

_Convert: TypeAlias = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Codec:
    dump: _Convert
    load: _Convert


class _Unfit(Exception):
    """A value is not what its annotation says; `where` it stands is put together from the inside out."""

    def __init__(self, before: str, after: str) -> None:
        super().__init__()
        self.before, self.where, self.after = before, "", after

    @classmethod
    def type(cls, expected: Any, found: Any) -> _Unfit:
        return cls(f"expected {expected} in ", f", found {type(found).__name__}")


@functools.cache
def _fields(cls: type[Any]) -> Mapping[str, _Codec]:
    if not dataclasses.is_dataclass(cls):
        raise ProtocolError(f"expected a dataclass as a message, found {cls!r}")
    annotations = {field.name: field.type for field in dataclasses.fields(cls)}
    for name, annotation in annotations.items():
        if isinstance(annotation, str):
            raise ProtocolError(
                f"expected {cls!r}.{name} to hold a type: drop `from __future__ import annotations`"
            )
    return {name: _codec(annotation) for name, annotation in annotations.items()}


def _dump(message: Any, cls: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, codec in _fields(cls).items():  # type: ignore[arg-type]  # every class is hashable
        try:
            found[name] = codec.dump(getattr(message, name))
        except _Unfit as unfit:
            unfit.where = f".{name}{unfit.where}"
            raise
    return found


def _load(value: dict[str, Any], cls: type[Any]) -> Any:
    fields = _fields(cls)  # type: ignore[arg-type]  # every class is hashable
    if value.keys() != fields.keys():
        odd = sorted(value.keys() ^ fields.keys())
        raise _Unfit("expected in ", f" exactly the fields {list(fields)}, missing or unknown: {odd!r:.200}")
    found: dict[str, Any] = {}
    for name, codec in fields.items():
        try:
            found[name] = codec.load(value[name])
        except _Unfit as unfit:
            unfit.where = f".{name}{unfit.where}"
            raise
    return cls(**found)


@contextlib.contextmanager
def _told_of(cls: type[Any]) -> Iterator[None]:
    try:
        yield
    except _Unfit as unfit:
        raise ProtocolError(f"{unfit.before}{cls.__name__}{unfit.where}{unfit.after}") from unfit


def _codec(annotation: Any) -> _Codec:
    """Make the converters of one annotation."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (_codec(item) for item in typing.get_args(annotation) if item is not type(None))
        return _Codec(_optional(inner.dump), _optional(inner.load))
    if origin is tuple:
        item = _codec(typing.get_args(annotation)[0])
        return _Codec(_items(item.dump, tuple, list), _items(item.load, list, tuple))
    if origin is Literal:
        names = typing.get_args(annotation)
        return _same(lambda value: type(value) is str and value in names, annotation)
    if origin is Mapping or annotation is Mapping:
        return _Codec(_mapping, _mapping)
    if annotation is bytes:
        return _Codec(_dump_bytes, _load_bytes)
    if annotation is float:
        return _Codec(_number, _number)
    if annotation in (int, str, bool):  # a bool is no int here
        return _same(lambda value: type(value) is annotation, annotation.__name__)
    return _Codec(_nested_dump(annotation), _nested_load(annotation))


def _same(fits: Callable[[Any], bool], expected: Any) -> _Codec:
    def convert(value: Any) -> Any:
        if not fits(value):
            raise _Unfit.type(expected, value)
        return value

    return _Codec(convert, convert)


def _optional(inner: _Convert) -> _Convert:
    return lambda value: None if value is None else inner(value)


def _items(inner: _Convert, source: type[Any], result: type[Any]) -> _Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, source):
            raise _Unfit.type("a list", value)
        found = []
        for number, item in enumerate(value):
            try:
                found.append(inner(item))
            except _Unfit as unfit:
                unfit.where = f"[{number}]{unfit.where}"
                raise
        return result(found)

    return convert


def _nested_dump(cls: type[Any]) -> _Convert:
    def convert(value: Any) -> Any:
        if type(value) is not cls:
            raise _Unfit.type(cls.__name__, value)
        return _dump(value, cls)

    return convert


def _nested_load(cls: type[Any]) -> _Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _Unfit.type("an object", value)
        return _load(value, cls)

    return convert


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _Unfit.type("an object", value)
    return dict(value)


def _number(value: Any) -> float:
    if type(value) not in (float, int):
        raise _Unfit.type("a number", value)
    return float(value)


def _dump_bytes(value: Any) -> str:
    if not isinstance(value, bytes | bytearray):
        raise _Unfit.type("bytes", value)
    return base64.b64encode(value).decode("ascii")


def _load_bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _Unfit.type("base64", value)
    try:
        data = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise _Unfit.type("base64", value) from error
    if base64.b64encode(data) != value.encode("ascii"):
        raise _Unfit.type("canonical base64", data)
    return data
