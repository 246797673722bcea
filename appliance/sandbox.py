"""The jail of a front or worker, applied by the process to itself before it reads anything.

Guarantees, to the custodian: after `apply` the process, with every thread it has and will have, has
namespaces of its own and no capability, gains no privileges, is neither traced nor dumped by its user, dies
with its parent, makes no sockets, starts no programs, signals and slows no one else, makes no memory
executable, changes no file by its path, and opens none but the code it runs; each of these was tried and
seen, not assumed. What did not take is reported, and where the profile demands it, a JailError. The custodian
confines itself to what it needs by `confine`.

Run it before libraries that read hostile input are used, and before threads start: Landlock and namespaces
are a thread's, the filter alone reaches those that run.
The parent-death signal follows the parent's *thread* that started this process: start children from one that
lives as long as the parent.

Order: what needs rights comes first; a change of who one is undoes the parent-death signal and dumpability,
so these come after; the filter, which refuses most of the calls used before, comes last.

KNOWN: where the host has no Landlock the `development` profile goes on, and a captured process then reads by
path what its user can.

Source: prctl(2), seccomp(2), proc(5), getrlimit(2), landlock(7), namespaces(7), capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
import signal
import struct
import sys
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from appliance import landlock, namespaces, privileges, seccomp
from appliance.errors import JailError
from appliance.seccomp import CUSTODIAN, FRONT, MACHINES, WORKER, Jail, Machine, number, program

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FRONT", "WORKER", "Applied", "Jail", "Restriction", "apply", "required"]

NAMESPACES = "namespaces"
CAPABILITIES = "no-capabilities"
OWN_USER = "own-user"
NO_NEW_PRIVILEGES = "no-new-privileges"
NOT_DUMPABLE = "not-dumpable"
NO_CORE = "no-core-dump"
DIES_WITH_PARENT = "dies-with-parent"
NO_NEW_CODE = "no-new-code"
FILES = "files"
SYSTEM_CALLS = "system-calls"

_MINIMUM = frozenset({NO_NEW_PRIVILEGES, NOT_DUMPABLE, SYSTEM_CALLS})
_REQUIRED = {
    "development": _MINIMUM,
    "isolated": _MINIMUM | {NO_CORE, DIES_WITH_PARENT, NAMESPACES, CAPABILITIES, FILES},
}
# Beside them: an account of its own needs root, and no new code a kernel of 6.3. Both are told.
RESTRICTIONS = _REQUIRED["isolated"] | {OWN_USER, NO_NEW_CODE}

_SET_PDEATHSIG, _GET_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE = 1, 2, 3, 4
_SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS = 38, 39
_SET_MDWE, _GET_MDWE, _REFUSE_EXEC_GAIN = 65, 66, 1
_MODE_FILTER, _FLAG_TSYNC = 1, 1
_SELF = Path("/proc/self")
# What Python, the C library and NumPy read beside their own folders; nothing of it is anybody's secret.
_SYSTEM = tuple(
    map(
        Path,
        (
            *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
            *("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system", "/sys/fs/cgroup"),
            *("/dev/null", "/dev/urandom"),
        ),
    )
)
_SHARED = Path("/dev/shm")  # noqa: S108  where ranks share memory, under names that MPI makes
_MPI = tuple(map(Path, ("/proc", "/sys/class", "/sys/devices", "/etc/machine-id")))
_FORKS = frozenset({"fork", "vfork"})  # not tried: an unrefused one would leave a second process here

_INTERNET, _VSOCK = 2, 40

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Restriction:
    """One restriction, whether trying it showed that it took, and what was seen."""

    name: str
    took: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What a jail came to in this process; `landlock_abi` is the kernel's, 0 where it has none."""

    jail: str
    restrictions: tuple[Restriction, ...]
    landlock_abi: int = 0

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
        needed = required(profile)
        lacking = [item for item in self.restrictions if item.name in needed and not item.took]
        if lacking:
            found = "; ".join(f"{item.name}: {item.detail}" for item in lacking)
            raise JailError(
                f"expected the {self.jail} jail of the {profile} profile to hold, found {found}: "
                "run on a kernel with seccomp filters and Landlock (Linux 5.13 or later, x86-64 or "
                "aarch64), and as root or where user namespaces are allowed"
            )
        return self


def required(profile: str) -> frozenset[str]:
    """Return the restrictions without which a profile refuses to run. Raises JailError if it is unknown."""
    if profile not in _REQUIRED:
        raise JailError(f"expected the profile to be one of {sorted(_REQUIRED)}, found {profile!r}")
    return _REQUIRED[profile]


def protect_memory() -> None:
    """Keep this process's memory from being dumped or traced by its user. Raises JailError.

    For the custodian, first of all. An exec resets it: call it at each start.
    """
    detail = _set(_SET_DUMPABLE, 0) or _no_core() or _prove_not_dumpable() or _prove_no_core()
    if detail:
        raise JailError(
            f"expected the custodian's memory closed to others, found {detail}: see `appliance doctor`"
        )


def confine() -> Applied:
    """Confine the custodian, which keeps its sockets and starts programs, to the calls it needs.

    A filter outlives an exec: where the one from before a sealing still holds, no second is stacked on it.
    """
    machine = _machine()
    privileges_fault = _set(_SET_NO_NEW_PRIVS, 1) or _prove_no_new_privileges()
    fault = prove_filter(CUSTODIAN, machine)
    if fault:
        fault = _filter(CUSTODIAN, machine) or prove_filter(CUSTODIAN, machine)
    faults = {NO_NEW_PRIVILEGES: privileges_fault, SYSTEM_CALLS: fault}
    return Applied(CUSTODIAN.name, tuple(Restriction(n, not f, f or "tried") for n, f in faults.items()))


def apply(jail: Jail, *, parent: int | None = None) -> Applied:
    """Restrict this process for good, then try each restriction. Call once.

    `parent` is the pid that should still be the parent, where the caller knows it from elsewhere; without it,
    a parent that died before the call goes unnoticed.
    """
    parent = os.getppid() if parent is None else parent
    machine = _machine()
    readable = _readable(jail)
    early = _met.pop() if _met else None
    outset = early or _step_out(jail)
    faults = {
        NAMESPACES: outset.namespaces,
        CAPABILITIES: outset.capabilities,
        OWN_USER: outset.own_user,
        NO_NEW_PRIVILEGES: _set(_SET_NO_NEW_PRIVS, 1),
        NOT_DUMPABLE: _set(_SET_DUMPABLE, 0),
        NO_CORE: _no_core(),
        DIES_WITH_PARENT: _set(_SET_PDEATHSIG, signal.SIGKILL),
        NO_NEW_CODE: _set(_SET_MDWE, _REFUSE_EXEC_GAIN),
        FILES: (early.files if early else _alone()) or landlock.restrict(readable),
        SYSTEM_CALLS: _filter(jail, machine),
    }
    proofs: dict[str, Callable[[], str]] = {
        CAPABILITIES: privileges.held,
        NO_NEW_PRIVILEGES: _prove_no_new_privileges,
        NOT_DUMPABLE: _prove_not_dumpable,
        NO_CORE: _prove_no_core,
        DIES_WITH_PARENT: lambda: _prove_dies_with_parent(parent),
        NO_NEW_CODE: _prove_no_new_code,
        FILES: _prove_files,
        SYSTEM_CALLS: lambda: prove_filter(jail, machine),
    }
    restrictions = []
    for name, fault in faults.items():
        if fault is None:
            continue  # the host has no account for it, which is no restriction that failed
        detail = fault or (proofs[name]() if name in proofs else "")  # the others prove themselves
        restrictions.append(Restriction(name, not detail, detail or "tried"))
    return Applied(jail.name, tuple(restrictions), landlock.abi())


@dataclass(frozen=True, slots=True)
class _Outset:
    """What came of the steps that need rights, each "" or what went wrong."""

    namespaces: str
    capabilities: str
    own_user: str | None
    files: str = ""


_met: list[_Outset] = []


def meet() -> None:
    """Give up all that a rank of several needs no more before it meets the others; `apply` follows.

    MPI starts a thread, which keeps what it could open: shared memory, where the ranks meet, and /proc, where
    it looks for the other ranks; never what lies on a disk.
    """
    outset = _step_out(WORKER, rank=True)
    fault = (
        _set(_SET_NO_NEW_PRIVS, 1) or _alone() or landlock.restrict((*_readable(WORKER), *_MPI), [_SHARED])
    )
    _met.append(replace(outset, files=fault))


def _step_out(jail: Jail, *, rank: bool = False) -> _Outset:
    entered = namespaces.enter(rank=rank)
    shrunk = privileges.shrink()
    own_user = privileges.become(jail.name)
    return _Outset(entered, shrunk or privileges.drop(), own_user)


def _machine() -> Machine | None:
    return MACHINES.get(os.uname().machine) if struct.calcsize("P") == 8 else None


def _readable(jail: Jail) -> tuple[Path, ...]:
    """Return what a jail's process may still open for reading: itself in /proc, and a worker its code."""
    if jail.name != WORKER.name:
        return (_SELF,)
    ours = Path(__file__).parents[1]
    python = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    libraries = [Path(prefix) / "lib" for prefix in (sys.prefix, sys.base_prefix)]
    packages = [ours / name for name in ("appliance", "audit", "kernels", "policy")]
    return (_SELF, *_SYSTEM, *map(Path, sorted(python)), *libraries, *packages)


# Each step below returns what went wrong, "" when nothing did, so that one report holds all of it.


def _set(option: int, value: int) -> str:
    return "" if _prctl(option, value) == 0 else f"prctl({option}) gave {_errno_name()}"


def _no_core() -> str:
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        return f"setrlimit gave {error}"
    return ""


def _alone() -> str:
    try:
        threads = len(os.listdir(_SELF / "task"))  # noqa: PTH208  a number is all that is needed
    except OSError as unknown:
        return f"UNKNOWN: {unknown}"
    return "" if threads == 1 else f"{threads} threads run already, and would keep their files"


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


def _prove_no_new_code() -> str:
    if (found := _prctl(_GET_MDWE, 0)) != _REFUSE_EXEC_GAIN:
        return f"expected memory that never turns executable, found {found}"
    try:
        mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except OSError as refused:
        return "" if refused.errno == errno.EACCES else f"expected EACCES from mmap, found {refused.strerror}"
    return "expected EACCES from mmap, found success"


def _prove_files() -> str:
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))
    except OSError as refused:
        return "" if refused.errno == errno.EACCES else f"expected EACCES from open, found {refused.strerror}"
    return "expected EACCES from opening /, found success"


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
            if b"\nSeccomp:\t2\n" not in status.read_bytes():  # text would load a module, by its path
                return f"no filter in {status}"
    except OSError as error:
        return f"UNKNOWN: {error}"
    for name in sorted(jail.refused - _FORKS):
        call = number(machine, name)
        if call is not None and (found := _refusal(call, -1, -1, -1, -1, -1, -1)) != "EPERM":
            return f"expected EPERM from {name}, found {found}"
    if (found := _refusal(seccomp.NEWEST + 1, -1, -1, -1, -1, -1, -1)) != "ENOSYS":
        return f"expected ENOSYS from call {seccomp.NEWEST + 1}, found {found}"
    return _prove_arguments(jail, machine)


def _prove_arguments(jail: Jail, machine: Machine) -> str:
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
        *((name, "EPERM", (-1, 0, 0)) for name in seccomp.SCHEDULES),  # nobody's pid: ESRCH or EINVAL
        ("setpriority", "EPERM", (0, -1, 0)),
        ("ioprio_set", "EPERM", (1, -1, 0)),
        ("openat", "EPERM", (-1, 0, os.O_WRONLY)),  # no such folder, no such name: EBADF or EFAULT
        ("openat", "EPERM", (-1, 0, os.O_RDWR)),
        ("openat", "EPERM", (-1, 0, os.O_CREAT)),
        ("prctl", "EPERM", (_SET_DUMPABLE, -1)),
        ("prlimit64", "EPERM", (0, -1, -1, 0)),
        ("ioctl", "EPERM", (-1, 0x5412, 0)),
        ("socket", "EPERM", (_INTERNET, -1, 0)),
        ("socket", "EPERM", (_VSOCK, -1, 0)),
    )
    for name, expected, arguments in tries:
        if name not in jail.judged:
            continue
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
