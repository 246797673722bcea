"""What a process may do because of who it is: given up for good.

Guarantee, to the sandbox: after `drop` this process has no capability and can gain none, whoever it runs as;
after `become` it runs as an account of its own, where the host has one and the process was root. In this
order: `shrink`, `become`, `drop`.

Source: capabilities(7), capset(2), prctl(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import struct

ACCOUNTS = {"front": "appliance-front", "worker": "appliance-worker"}
_CAPBSET_READ, _CAPBSET_DROP, _CAP_AMBIENT, _AMBIENT_CLEAR_ALL = 23, 24, 47, 4
_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def become(jail: str) -> str | None:
    """Run as this jail's account from here on; returns what went wrong, "", or None without an account.

    Without root, or without the account, front, workers and custodian share one user; `doctor` tells.
    """
    name = ACCOUNTS[jail]
    try:
        account = pwd.getpwnam(name) if os.geteuid() == 0 else None
    except KeyError:
        account = None
    if account is None:
        return None
    try:
        os.setgroups([])
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    except OSError as refused:
        return f"could not become {name}: {refused.strerror}"
    found = os.getresuid()
    return "" if found == (account.pw_uid,) * 3 else f"expected the uid of {name}, found {found}"


def shrink() -> str:
    """Empty the bounding set: no program that is started gains anything; returns what went wrong, or ""."""
    number = 0
    while (held := _libc.prctl(_CAPBSET_READ, ctypes.c_ulong(number), 0, 0, 0)) >= 0:
        # Without CAP_SETPCAP the set stays, and does no harm: no_new_privs keeps it from giving anything.
        if held and _libc.prctl(_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) and _can_set():
            return f"dropping capability {number} gave {_errno_name()}"
        number += 1
    return ""


def drop() -> str:
    """Give up every capability that is held; returns what went wrong, or ""."""
    _libc.prctl(_CAP_AMBIENT, ctypes.c_ulong(_AMBIENT_CLEAR_ALL), 0, 0, 0)
    header, nothing = struct.pack("=Ii", _VERSION_3, 0), bytes(24)
    if _libc.capset(header, nothing):
        return f"capset gave {_errno_name()}"
    return ""


def held() -> str:
    """Return the capabilities that this process has or can have, "" where there are none."""
    header, found = struct.pack("=Ii", _VERSION_3, 0), ctypes.create_string_buffer(24)
    if _libc.capget(header, found):
        return f"capget gave {_errno_name()}"
    low, high = struct.unpack("=3I", found.raw[:12]), struct.unpack("=3I", found.raw[12:])
    return "" if not any((*low, *high)) else f"expected no capability, found {low} and {high}"


def _can_set() -> bool:
    header, found = struct.pack("=Ii", _VERSION_3, 0), ctypes.create_string_buffer(24)
    _libc.capget(header, found)
    return bool(struct.unpack("=I", found.raw[:4])[0] >> 8 & 1)  # CAP_SETPCAP is effective


def _errno_name() -> str:
    code = ctypes.get_errno()
    return errno.errorcode.get(code, str(code))
