"""Landlock: a process gives up every file by its path but those below folders that it names.

Guarantee, to the sandbox: after `restrict`, this thread and all that it starts can open, list, execute, make,
remove or rename nothing outside `readable`, where they read only, and `writable`; where the kernel knows how
(ABI 4, 6), they also neither bind nor connect TCP ports, and reach no abstract socket and no process outside.
Descriptors that are open stay open. Other threads that run already are not covered.

Not covered at all: UDP, raw, netlink and vsock sockets, path sockets, stat, chmod: seccomp and an empty
network namespace are for those.

Source: landlock(7), linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_OF_FILES = _READ_FILE  # of what is granted, all that a rule for a single file may hold
# What each ABI can handle: up to 13 rights to files, then REFER, TRUNCATE, IOCTL_DEV.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHTS = 16
_TCP_SINCE, _SCOPES_SINCE = 4, 6
_TCP, _SCOPES = 0x3, 0x3  # bind and connect; abstract sockets and signals

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Return the kernel's Landlock ABI, 0 where it has none or it is switched off."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


def restrict(readable: Iterable[Path], writable: Iterable[Path] = (), *, scoped: bool = True) -> str:
    """Restrict this thread for good; what does not exist is passed over. Returns what went wrong, or ""."""
    version = abi()
    if not version:
        return "the kernel has no Landlock, or it is switched off"
    rights = (1 << _FILE_RIGHTS.get(version, _NEWEST_FILE_RIGHTS)) - 1
    attributes = struct.pack(
        "=QQQ",
        rights,
        _TCP if version >= _TCP_SINCE else 0,
        _SCOPES if version >= _SCOPES_SINCE and scoped else 0,
    )
    size = 24 if version >= _SCOPES_SINCE else 16 if version >= _TCP_SINCE else 8
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return f"landlock_create_ruleset gave {_errno_name()}"
    try:
        for path in readable:
            if fault := _allow(ruleset, path, _READ_FILE | _READ_DIR):
                return fault
        for path in writable:
            if fault := _allow(ruleset, path, rights & ~_EXECUTE):
                return fault
        if _libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)):
            return f"landlock_restrict_self gave {_errno_name()}"
    finally:
        os.close(ruleset)
    return ""


def _allow(ruleset: int, path: Path, rights: int) -> str:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return ""  # nothing to allow
    try:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rule = struct.pack("=Qi", rights if folder else rights & _OF_FILES, descriptor)
        added = _libc.syscall(_ADD_RULE, ctypes.c_int(ruleset), _RULE_PATH_BENEATH, rule, ctypes.c_uint32(0))
        return f"landlock_add_rule gave {_errno_name()} for {path}" if added else ""
    finally:
        os.close(descriptor)


def _errno_name() -> str:
    code = ctypes.get_errno()
    return errno.errorcode.get(code, str(code))
