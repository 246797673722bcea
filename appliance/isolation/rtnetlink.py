"""Links, addresses and routes as the kernel tells them: a socket that wakes on every change, and a full dump.

Guarantees, to the watch: `Monitor.read` returns everything that was told since the last read, as plain
sentences, and leaves nothing out in silence: messages that were lost (ENOBUFS) or cannot be parsed are
findings too. What somebody other than the kernel sent is ignored. Needs no rights.

Only loopback is expected. It is known by its index, which is 1 in every network namespace (LOOPBACK_IFINDEX),
since a name can be changed.

Source: netlink(7), rtnetlink(7), linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from appliance.errors import ProtocolError

LOOPBACK = 1
GROUPS = 0x551  # RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
LOST = "messages of the kernel were lost: what happened meanwhile is not known"

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_ERROR, _DONE = 2, 3
_KINDS = {16: "link", 17: "link", 20: "address", 21: "address", 24: "route", 25: "route"}
_GONE = frozenset({17, 21, 25})
_IFNAME, _RTA_OIF, _RTA_MULTIPATH = 3, 4, 9
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=8BI")
_ATTRIBUTE = struct.Struct("=HH")
_REQUEST_DUMP = 0x301
_RECEIVE_BYTES = 1 << 16
_BUFFER_BYTES = 1 << 20
_DUMP_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Change:
    """One thing told: a link, an address or a route; `index` of the interface, 0 where it names none."""

    kind: str
    gone: bool
    index: int
    name: str


def parse_changes(data: bytes) -> Iterator[Change]:
    """Yield what a datagram tells; other kinds of messages are passed over. Raises ProtocolError."""
    for kind, body in _messages(data):
        if kind in _KINDS:
            yield _parse_change(kind, body)


def finding(change: Change) -> str:
    """Return what is wrong with a change, "" where it is loopback's own."""
    if change.index in (0, LOOPBACK):
        return ""
    which = change.name or f"interface {change.index}"
    return f"{change.kind} {'gone' if change.gone else 'there'}: {which}"


class Monitor:
    """Wakes on each change of links, addresses and routes in this network namespace."""

    def __init__(self, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self._socket.setblocking(False)
        self._socket.bind((0, GROUPS))

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def read(self) -> list[str]:
        """Return what is wrong with all that was told since; raises nothing that the kernel may cause."""
        found: list[str] = []
        for data in received(self._socket):
            if data is None:
                found.append(LOST)
                continue
            try:
                found += [told for change in parse_changes(data) if (told := finding(change))]
            except ProtocolError as malformed:
                found.append(str(malformed))
        return found


def received(sock: socket.socket) -> Iterator[bytes | None]:
    """Yield each waiting datagram of the kernel, None where some were lost."""
    while True:
        try:
            data, sender = sock.recvfrom(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as lost:
            if lost.errno != errno.ENOBUFS:
                raise
            yield None
            continue
        if sender[0] == 0:  # the kernel; any process may send to a port
            yield data


def links() -> list[Change]:
    """Return every link of this network namespace. Raises OSError or ProtocolError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as asking:
        asking.settimeout(_DUMP_TIMEOUT_S)
        asking.bind((0, 0))
        body = _LINK.pack(0, 0, 0, 0, 0)
        asking.sendto(_HEADER.pack(_HEADER.size + len(body), _GETLINK, _REQUEST_DUMP, 1, 0) + body, (0, 0))
        found: list[Change] = []
        while True:
            data, sender = asking.recvfrom(_RECEIVE_BYTES)
            if sender[0] != 0:
                continue
            for kind, message in _messages(data):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    raise ProtocolError("expected a list of links from the kernel, found an error")
                if kind == _NEWLINK:
                    found.append(_parse_change(kind, message))


def _parse_change(kind: int, body: bytes) -> Change:
    try:
        if kind in (_NEWLINK, _DELLINK):
            index = _LINK.unpack_from(body)[2]
            attributes = _attributes(body[_LINK.size :])
            name = attributes.get(_IFNAME, b"").rstrip(b"\0").decode("ascii", "replace")
        elif _KINDS[kind] == "address":
            index, name = _ADDRESS.unpack_from(body)[4], ""
        else:
            _ROUTE.unpack_from(body)
            attributes = _attributes(body[_ROUTE.size :])
            index, name = _route_index(attributes), ""
    except struct.error as short:
        raise ProtocolError(f"expected a whole message of rtnetlink, found {len(body)} bytes") from short
    return Change(_KINDS[kind], kind in _GONE, index, name)


def _route_index(attributes: dict[int, bytes]) -> int:
    """Return the interface a route leads to, 0 for none; of several ways none is loopback's."""
    if _RTA_MULTIPATH in attributes:
        return -1
    return int(struct.unpack("=i", attributes[_RTA_OIF])[0]) if _RTA_OIF in attributes else 0


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise ProtocolError(f"expected a header of rtnetlink, found {len(data) - at} bytes")
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            raise ProtocolError(
                f"expected a message of rtnetlink within {len(data) - at} bytes, found {length}"
            )
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise ProtocolError(f"expected an attribute within {len(data) - at} bytes, found {length}")
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found
