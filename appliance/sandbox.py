"""The first jail of a front or worker, applied by the process to itself before it reads anything.

Guarantees, to the custodian: after `apply` the process, with every thread it has and will have, gains no
privileges, is neither traced nor dumped by its user, dies with its parent, makes no sockets, starts no
programs, signals no one else, and changes no file by its path; each of these was tried and seen, not assumed.
What did not take is reported, and where the profile demands it, a JailError.

Run it before libraries that read hostile input are used; threads that NumPy started already are covered too.
The parent-death signal follows the parent's *thread* that started this process: start children from one that
lives as long as the parent.

KNOWN: files are still opened by path for reading, so a captured process can read what its user can, keys that
lie in files among it, and one of root other processes' memory in /proc; a mount and a PID namespace and
Landlock close that later.

Source: prctl(2), seccomp(2), proc(5), getrlimit(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import JailError
from appliance.seccomp import FRONT, MACHINES, WORKER, Jail, Machine, number, program

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FRONT", "WORKER", "Applied", "Jail", "Restriction", "apply", "required"]

NO_NEW_PRIVILEGES = "no-new-privileges"
NOT_DUMPABLE = "not-dumpable"
NO_CORE = "no-core-dump"
DIES_WITH_PARENT = "dies-with-parent"
SYSTEM_CALLS = "system-calls"

_REQUIRED = {
    "development": frozenset({NO_NEW_PRIVILEGES, NOT_DUMPABLE, SYSTEM_CALLS}),
    "isolated": frozenset({NO_NEW_PRIVILEGES, NOT_DUMPABLE, NO_CORE, DIES_WITH_PARENT, SYSTEM_CALLS}),
}

_SET_PDEATHSIG, _GET_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE = 1, 2, 3, 4
_SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS = 38, 39
_MODE_FILTER, _FLAG_TSYNC = 1, 1
_FORKS = frozenset({"fork", "vfork"})  # not tried: an unrefused one would leave a second process here

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Restriction:
    """One restriction, whether trying it showed that it took, and what was seen."""

    name: str
    took: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What a jail came to in this process."""

    jail: str
    restrictions: tuple[Restriction, ...]

    @property
    def took(self) -> tuple[str, ...]:
        """Names of the restrictions that hold."""
        return tuple(item.name for item in self.restrictions if item.took)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the restrictions that do not."""
        return tuple(item.name for item in self.restrictions if not item.took)

    def demand(self, profile: str) -> Applied:
        """Return self if the profile's required restrictions hold. Raises JailError."""
        lacking = [item for item in self.restrictions if item.name in required(profile) and not item.took]
        if lacking:
            found = "; ".join(f"{item.name}: {item.detail}" for item in lacking)
            raise JailError(
                f"expected the {self.jail} jail of the {profile} profile to hold, found {found}: "
                "run on a kernel with seccomp filters (Linux 5.4 or later, x86-64 or aarch64)"
            )
        return self


def required(profile: str) -> frozenset[str]:
    """Return the restrictions without which a profile refuses to run. Raises JailError if it is unknown."""
    if profile not in _REQUIRED:
        raise JailError(f"expected the profile to be one of {sorted(_REQUIRED)}, found {profile!r}")
    return _REQUIRED[profile]


def protect_memory() -> None:
    """Keep this process's memory from being dumped or traced by its user. Raises JailError.

    For the custodian, which must keep its sockets and start programs. An exec resets it: call it at each
    start.
    """
    detail = _set(_SET_DUMPABLE, 0) or _no_core() or _prove_not_dumpable() or _prove_no_core()
    if detail:
        raise JailError(
            f"expected the custodian's memory closed to others, found {detail}: see `appliance doctor`"
        )


def apply(jail: Jail, *, parent: int | None = None) -> Applied:
    """Restrict this process for good, then try each restriction. Call once.

    `parent` is the pid that should still be the parent, where the caller knows it from elsewhere; without it,
    a parent that died before the call goes unnoticed.
    """
    parent = os.getppid() if parent is None else parent
    machine = MACHINES.get(os.uname().machine) if struct.calcsize("P") == 8 else None
    # In this order: the filter needs no_new_privs, and refuses the prctl options used before it.
    faults = {
        NO_NEW_PRIVILEGES: _set(_SET_NO_NEW_PRIVS, 1),
        NOT_DUMPABLE: _set(_SET_DUMPABLE, 0),
        NO_CORE: _no_core(),
        DIES_WITH_PARENT: _set(_SET_PDEATHSIG, signal.SIGKILL),
        SYSTEM_CALLS: _filter(jail, machine),
    }
    proofs: dict[str, Callable[[], str]] = {
        NO_NEW_PRIVILEGES: _prove_no_new_privileges,
        NOT_DUMPABLE: _prove_not_dumpable,
        NO_CORE: _prove_no_core,
        DIES_WITH_PARENT: lambda: _prove_dies_with_parent(parent),
        SYSTEM_CALLS: lambda: prove_filter(jail, machine),
    }
    restrictions = []
    for name, fault in faults.items():
        detail = fault or proofs[name]()
        restrictions.append(Restriction(name, not detail, detail or "tried"))
    return Applied(jail.name, tuple(restrictions))


# Each step below returns what went wrong, "" when nothing did, so that one report holds all of it.


def _set(option: int, value: int) -> str:
    return "" if _prctl(option, value) == 0 else f"prctl({option}) gave {_errno_name()}"


def _no_core() -> str:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        return f"setrlimit gave {error}"
    return ""


def _filter(jail: Jail, machine: Machine | None) -> str:
    if machine is None:
        return f"UNKNOWN: no table of system calls for {os.uname().machine}, {8 * struct.calcsize('P')} bits"
    code = program(jail, machine, os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    result = _call(number(machine, "seccomp"), _MODE_FILTER, _FLAG_TSYNC, header)
    if result > 0:
        return f"thread {result} could not be put under the filter"
    return "" if result == 0 else f"seccomp gave {_errno_name()}"


def _prove_no_new_privileges() -> str:
    return "" if _prctl(_GET_NO_NEW_PRIVS, 0) == 1 else "not set"


def _prove_not_dumpable() -> str:
    found = _prctl(_GET_DUMPABLE, 0)
    return "" if found == 0 else f"expected dumpable 0, found {found}"


def _prove_no_core() -> str:
    found = resource.getrlimit(resource.RLIMIT_CORE)
    return "" if found == (0, 0) else f"expected a core limit of 0, found {found}"


def _prove_dies_with_parent(parent: int) -> str:
    found = ctypes.c_int(0)
    _libc.prctl(_GET_PDEATHSIG, ctypes.byref(found), 0, 0, 0)
    if found.value != signal.SIGKILL:
        return f"expected signal {int(signal.SIGKILL)} at the parent's death, found {found.value}"
    now = os.getppid()  # it may have died before the signal was asked for
    return "" if now == parent else f"expected parent {parent}, found {now}: it died meanwhile"


def prove_filter(jail: Jail, machine: Machine | None) -> str:
    """Try the calls of a jail with harmless arguments; return the first that was not refused, or ""."""
    if machine is None:
        return "UNKNOWN machine"
    try:
        for status in Path("/proc/self/task").glob("*/status"):
            if "\nSeccomp:\t2\n" not in status.read_text(encoding="ascii", errors="replace"):
                return f"no filter in {status}"
    except OSError as error:
        return f"UNKNOWN: {error}"
    for name in sorted(jail.refused - _FORKS):
        call = number(machine, name)
        if call is not None and (found := _refusal(call, -1, -1, -1, -1, -1, -1)) != "EPERM":
            return f"expected EPERM from {name}, found {found}"
    return _prove_arguments(machine)


def _prove_arguments(machine: Machine) -> str:
    """Try the calls that are refused by argument, with some that the kernel would refuse differently."""
    no_such_signal = 999  # EINVAL before anyone is signalled
    tries = (
        ("clone", "EPERM", (0x800, 0, 0, 0, 0)),  # CLONE_SIGHAND alone: EINVAL
        ("clone", "EPERM", (0x10010000, 0, 0, 0, 0)),  # a thread in a new user namespace: EINVAL
        ("clone3", "ENOSYS", (-1, -1)),
        ("kill", "EPERM", (os.getppid(), no_such_signal)),
        ("kill", "EPERM", (-1, no_such_signal)),
        ("kill", "EINVAL", (os.getpid(), no_such_signal)),
        ("tgkill", "EPERM", (os.getppid(), os.getppid(), no_such_signal)),
        ("openat", "EPERM", (-1, 0, os.O_WRONLY)),  # no such folder, no such name: EBADF or EFAULT
        ("openat", "EPERM", (-1, 0, os.O_RDWR)),
        ("openat", "EPERM", (-1, 0, os.O_CREAT)),
        ("prctl", "EPERM", (_SET_DUMPABLE, -1)),
        ("prlimit64", "EPERM", (0, -1, -1, 0)),
        ("ioctl", "EPERM", (-1, 0x5412, 0)),
    )
    for name, expected, arguments in tries:
        found = _refusal(number(machine, name), *arguments)
        if found != expected:
            return f"expected {expected} from {name}{arguments}, found {found}"
    return ""


def _refusal(call: int | None, *arguments: int) -> str:
    return "success" if _call(call, *arguments) >= 0 else _errno_name()


def _call(call: int | None, *arguments: int | bytes) -> int:
    converted = [item if isinstance(item, bytes) else ctypes.c_long(item) for item in arguments]
    return int(_libc.syscall(ctypes.c_long(-1 if call is None else call), *converted))


def _prctl(option: int, value: int) -> int:
    return int(
        _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    )


def _errno_name() -> str:
    code = ctypes.get_errno()
    return errno.errorcode.get(code, str(code))
