"""A pair of virtual Ethernet interfaces, made with one message to the kernel; in a namespace of the caller's.

Source: rtnetlink(7), linux/if_link.h, linux/veth.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

_NEWLINK, _DELLINK = 16, 17
_CREATE_AND_ACK, _ACK = 0x605, 0x5
_IFNAME, _LINKINFO, _INFO_KIND, _INFO_DATA, _PEER = 3, 18, 1, 2, 1
_UP = 1


def make_pair(name: str = "veth0", peer: str = "veth1") -> None:
    """Make both interfaces in this network namespace and bring them up. Raises OSError."""
    end = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    data = _attribute(_PEER, end + _attribute(_IFNAME, peer.encode() + b"\0"))
    info = _attribute(_LINKINFO, _attribute(_INFO_KIND, b"veth\0") + _attribute(_INFO_DATA, data))
    _ask(_NEWLINK, _CREATE_AND_ACK, end + _attribute(_IFNAME, name.encode() + b"\0") + info)
    for each in (name, peer):  # together with its making, the first would find no peer
        up = struct.pack("=BxHiII", 0, 0, 0, _UP, _UP)
        _ask(_NEWLINK, _ACK, up + _attribute(_IFNAME, each.encode() + b"\0"))


def remove(name: str = "veth0") -> None:
    """Remove an interface, and its peer with it. Raises OSError."""
    _ask(_DELLINK, _ACK, struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(_IFNAME, name.encode() + b"\0"))


def _attribute(kind: int, value: bytes) -> bytes:
    raw = struct.pack("=HH", 4 + len(value), kind) + value
    return raw + bytes(-len(raw) % 4)


def _ask(kind: int, flags: int, body: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
        asking.bind((0, 0))
        asking.sendto(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body, (0, 0))
        (code,) = struct.unpack_from("=i", asking.recv(65536), 16)
        if code:
            raise OSError(-code, f"{os.strerror(-code)} ({errno.errorcode.get(-code)})")
