"""Namespaces of a process's own: no network but a loopback that is down, no memory or mounts shared.

Guarantee, to the sandbox: after `enter` this thread sees no network interface of the host, and what it mounts
or shares is seen by nobody. As root directly; as an ordinary user through a user namespace in which nobody
else exists, where the host allows those. To be entered before any other thread starts: namespaces are a
thread's.

Source: namespaces(7), user_namespaces(7), unshare(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from pathlib import Path

_NEWNS, _NEWIPC, _NEWUSER, _NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
_OWN = _NEWNET | _NEWNS
_NETWORK = Path("/proc/self/ns/net")

_libc = ctypes.CDLL(None, use_errno=True)


def enter(*, rank: bool = False) -> str:
    """Leave the host's namespaces, once; returns what went wrong, or "".

    A `rank` keeps the namespace of shared memory, since it is about to share some with the other ranks.
    """
    uid, gid = os.geteuid(), os.getegid()
    before = _network()
    rootless = uid != 0
    if _libc.unshare(_OWN | (0 if rank else _NEWIPC) | (_NEWUSER if rootless else 0)):
        code = ctypes.get_errno()
        hint = ": user namespaces are forbidden here" if rootless else ""
        return f"unshare gave {errno.errorcode.get(code, code)}{hint}"
    if rootless:
        try:
            Path("/proc/self/setgroups").write_text("deny", "ascii")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", "ascii")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", "ascii")
        except OSError as refused:
            return f"a user namespace without a map: {refused.strerror}"
    after = _network()
    if not before or after == before:
        return f"expected another network namespace than {before or 'one that /proc shows'}, found {after}"
    return _others()


def _network() -> str:
    with contextlib.suppress(OSError):
        return str(_NETWORK.readlink())
    return ""


def _others() -> str:
    """Return the interfaces beside loopback, which a fresh namespace has none of."""
    others = sorted(name for index, name in socket.if_nameindex() if index != 1)
    return f"expected loopback alone, found {', '.join(others)}" if others else ""
