"""One client's connection, as bytes: cut into messages, with patience and buffers that end.

Guarantees, to the front: a client that sends too much, stops in the middle of a message, or does not read its
answers is dropped, and costs at most the limits below until then; descriptors that nobody took are closed.
Descriptors belong to the message that is complete next after they arrive; where one read completes two
messages, nobody can tell whose they are, and the client is dropped.

A client that only shut down its sending side (as `socat` does) still gets its answers.

Source: unix(7); the boundary of SCM_RIGHTS within a stream is the read that delivered them.
"""

from __future__ import annotations

import array
import asyncio
import select
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import ProtocolError
from appliance.messages import MAX_FDS, close_fds, received_fds
from appliance.varlink import MAX_MESSAGE, Framer

if TYPE_CHECKING:
    from collections.abc import Callable

_READ_SIZE = 64 * 1024
_HANGUP_CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may use; the times are generous for a person, the sizes for a request."""

    unfinished_s: float = 10.0  # for the rest of a message that has begun
    silent_s: float = 60.0  # for the first message of a connection
    waiting_bytes: int = 2 * MAX_MESSAGE  # of messages sent ahead of their turn
    unread_bytes: int = 4 * 1024 * 1024  # of answers that the client does not read
    clients: int = 64


class Connection:
    """A client's socket, taken over; used within one event loop."""

    def __init__(self, sock: socket.socket, limits: Limits, on_close: Callable[[], object]) -> None:
        sock.setblocking(False)
        self._on_close = on_close
        self._sock = sock
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._framer = Framer()
        self._waiting: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._loose: tuple[int, ...] = ()
        self._arrived = asyncio.Event()
        self._unread = bytearray()
        self._ended = False  # the client sends nothing more
        self._closing = False  # we send nothing more than what is buffered
        self.closed = False
        self._deadline: asyncio.TimerHandle | None = None
        self._owing_since = 0.0
        self._loop.add_reader(sock, self._readable)
        self._expect_within(limits.silent_s)

    def fileno(self) -> int:
        """Return the socket's descriptor, to be shown to the custodian."""
        return self._sock.fileno()

    @property
    def owing_s(self) -> float:
        """Seconds that the client has owed us bytes: its first message, the rest of one, reading ours."""
        return 0.0 if self._deadline is None else self._loop.time() - self._owing_since

    async def next(self) -> tuple[bytes, tuple[int, ...]] | None:
        """Return the next message and its descriptors, now the caller's; None when there are no more."""
        while not self._waiting:
            if self._ended or self._closing or self.closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    def write(self, data: bytes) -> None:
        """Send, or keep for when the client reads; one that lets too much pile up is dropped."""
        if self.closed or self._closing:
            return
        self._unread += data
        self._writable()
        if len(self._unread) > self._limits.unread_bytes:
            self.close()

    def finish(self) -> None:
        """Read nothing more, and close once the client has read what was written."""
        if self.closed:
            return
        self._closing = True
        self._arrived.set()
        self._loop.remove_reader(self._sock)
        self._expect_within(self._limits.unfinished_s)
        self._writable()

    def close(self) -> None:
        """Drop the client now."""
        if self.closed:
            return
        self.closed = True
        self._expect_within(None)
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        for _, fds in self._waiting:
            close_fds(fds)
        close_fds(self._loose)
        self._waiting.clear()
        self._sock.close()
        self._arrived.set()
        self._on_close()

    def _readable(self) -> None:
        try:
            data, fds = self._receive()
            if not data:
                self._client_ended()
                return
            self._loose += fds
            began = not self._framer.partial
            self._take(self._framer.feed(data), with_fds=bool(fds), began=began)
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            self.close()

    def _receive(self) -> tuple[bytes, tuple[int, ...]]:
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        data, control, flags, _ = self._sock.recvmsg(_READ_SIZE, space, socket.MSG_CMSG_CLOEXEC)
        fds = received_fds(control)
        if flags & socket.MSG_CTRUNC or len(fds) + len(self._loose) > MAX_FDS:
            close_fds(fds)
            raise ProtocolError(f"expected at most {MAX_FDS} descriptors beside a message, found more")
        return data, fds

    def _take(self, messages: list[bytes], *, with_fds: bool, began: bool) -> None:
        if with_fds and len(messages) > 1:
            raise ProtocolError("expected descriptors beside one message, found several messages")
        for message in messages:
            self._waiting.append((message, self._loose))
            self._loose = ()
        if messages:
            self._arrived.set()
        if sum(len(message) for message, _ in self._waiting) > self._limits.waiting_bytes:
            raise ProtocolError("expected a client to wait for its answers, found it far ahead")
        if messages or began:  # a slow drip does not move the deadline of a message that has begun
            self._expect_within(self._limits.unfinished_s if self._framer.partial else None)

    def _client_ended(self) -> None:
        self._ended = True
        self._expect_within(None)
        self._loop.remove_reader(self._sock)
        self._arrived.set()
        self._watch_for_hangup()

    def _watch_for_hangup(self) -> None:
        """Notice that a client is gone whose end of sending was seen: no read will tell any more."""
        if self.closed:
            return
        poll = select.poll()
        poll.register(self._sock, 0)
        if poll.poll(0):  # POLLHUP: both directions are shut
            self.close()
        else:
            self._loop.call_later(_HANGUP_CHECK_S, self._watch_for_hangup)

    def _writable(self) -> None:
        try:
            while self._unread:
                del self._unread[: self._sock.send(self._unread)]
        except BlockingIOError:
            self._loop.add_writer(self._sock, self._writable)
            return
        except OSError:
            self.close()
            return
        self._loop.remove_writer(self._sock)
        if self._closing:
            self.close()

    def _expect_within(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        else:
            self._owing_since = self._loop.time()
        self._deadline = None if seconds is None else self._loop.call_later(seconds, self.close)
