"""Typed, bounded messages between the custodian and the processes it started.

Guarantees, to both ends of a SOCK_SEQPACKET socketpair: one packet is one message of a kind the receiver
named, each field has exactly its declared type, nothing is missing or added, and no packet exceeds
MAX_MESSAGE bytes or MAX_FDS descriptors. Whatever breaks that is a ProtocolError, and descriptors that came
with it are closed. The neighbour is not trusted: a captured front or worker may send any bytes it likes.

A message is a frozen dataclass, sent as JSON beside its class name: {"kind": "Call", "conn": 3, ...};
`appliance.codec` says which types its fields may have.

Source: unix(7) for packet boundaries and SCM_RIGHTS.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from appliance.codec import dump, load
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
    data = encode_json({"kind": cls.__name__} | dump(message))
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
    return load(value, kinds[kind])


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
