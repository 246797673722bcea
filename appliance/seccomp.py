"""System call filters, as values: which calls a jail refuses, and the BPF program that refuses them.

Guarantees, to the sandbox: `program` is pure, so it can be read, counted and run in a test for any machine. A
call made through another architecture's table ends the process, as its numbers mean something else there.
Refused calls fail with EPERM; clone3 with ENOSYS, so that the C library falls back to clone, whose flags
a filter can see (clone3 keeps them behind a pointer), and so does every call newer than `NEWEST`: what a
later kernel adds, nobody has judged here.

KNOWN: up to `NEWEST` the filter refuses what is listed and allows the rest; files are still opened by path
for reading (Landlock and namespaces come on top).

Source: seccomp(2), linux/bpf_common.h, linux/seccomp.h, linux/audit.h; call numbers from asm/unistd_64.h
(x86-64) and asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: why a jail may refuse it, and its numbers; None where the machine has no such call."""

    group: str
    x86_64: int | None
    aarch64: int | None


_REASONS = {
    "sockets": "a channel out that nobody gave this process",
    "accepting": "taking clients",
    "programs": "running something else, or a child that outlives this process",
    "signals": "ending or confusing other processes",
    "processes": "reading or writing other processes",
    "kernel": "parts of the kernel with a history, and no use here",
    "namespaces": "building another view of the system, in which to be root",
    "machine": "changing the machine itself",
    "files": "leaving plaintext, or another's log, program or catalog, anywhere that this user can write",
}

CALLS: dict[str, Call] = {
    "bind": Call("sockets", 49, 200),
    "connect": Call("sockets", 42, 203),
    "listen": Call("sockets", 50, 201),
    "socket": Call("sockets", 41, 198),
    "socketpair": Call("sockets", 53, 199),
    "accept": Call("accepting", 43, 202),
    "accept4": Call("accepting", 288, 242),
    "execve": Call("programs", 59, 221),
    "execveat": Call("programs", 322, 281),
    "fork": Call("programs", 57, None),
    "vfork": Call("programs", 58, None),
    "pidfd_open": Call("signals", 434, 434),
    "pidfd_send_signal": Call("signals", 424, 424),
    "rt_sigqueueinfo": Call("signals", 129, 138),
    "rt_tgsigqueueinfo": Call("signals", 297, 240),
    "tkill": Call("signals", 200, 130),
    "kcmp": Call("processes", 312, 272),
    "migrate_pages": Call("processes", 256, 238),
    "move_pages": Call("processes", 279, 239),
    "pidfd_getfd": Call("processes", 438, 438),
    "process_madvise": Call("processes", 440, 440),
    "process_mrelease": Call("processes", 448, 448),
    "process_vm_readv": Call("processes", 310, 270),
    "process_vm_writev": Call("processes", 311, 271),
    "ptrace": Call("processes", 101, 117),
    "add_key": Call("kernel", 248, 217),
    "bpf": Call("kernel", 321, 280),
    "fanotify_init": Call("kernel", 300, 262),
    "io_uring_enter": Call("kernel", 426, 426),
    "io_uring_register": Call("kernel", 427, 427),
    "io_uring_setup": Call("kernel", 425, 425),
    "ioperm": Call("kernel", 173, None),
    "iopl": Call("kernel", 172, None),
    "keyctl": Call("kernel", 250, 219),
    "lsm_set_self_attr": Call("kernel", 460, 460),
    "modify_ldt": Call("kernel", 154, None),
    "name_to_handle_at": Call("kernel", 303, 264),
    "open_by_handle_at": Call("kernel", 304, 265),
    "perf_event_open": Call("kernel", 298, 241),
    "personality": Call("kernel", 135, 92),
    "request_key": Call("kernel", 249, 218),
    "syslog": Call("kernel", 103, 116),
    "userfaultfd": Call("kernel", 323, 282),
    "chroot": Call("namespaces", 161, 51),
    "fsconfig": Call("namespaces", 431, 431),
    "fsmount": Call("namespaces", 432, 432),
    "fsopen": Call("namespaces", 430, 430),
    "fspick": Call("namespaces", 433, 433),
    "mount": Call("namespaces", 165, 40),
    "mount_setattr": Call("namespaces", 442, 442),
    "move_mount": Call("namespaces", 429, 429),
    "open_tree": Call("namespaces", 428, 428),
    "open_tree_attr": Call("namespaces", 467, 467),
    "pivot_root": Call("namespaces", 155, 41),
    "setns": Call("namespaces", 308, 268),
    "umount2": Call("namespaces", 166, 39),
    "unshare": Call("namespaces", 272, 97),
    "acct": Call("machine", 163, 89),
    "adjtimex": Call("machine", 159, 171),
    "clock_adjtime": Call("machine", 305, 266),
    "clock_settime": Call("machine", 227, 112),
    "delete_module": Call("machine", 176, 106),
    "finit_module": Call("machine", 313, 273),
    "init_module": Call("machine", 175, 105),
    "kexec_file_load": Call("machine", 320, 294),
    "kexec_load": Call("machine", 246, 104),
    "quotactl": Call("machine", 179, 60),
    "quotactl_fd": Call("machine", 443, 443),
    "reboot": Call("machine", 169, 142),
    "setdomainname": Call("machine", 171, 162),
    "sethostname": Call("machine", 170, 161),
    "setrlimit": Call("machine", 160, 164),
    "settimeofday": Call("machine", 164, 170),
    "swapoff": Call("machine", 168, 225),
    "swapon": Call("machine", 167, 224),
    "chmod": Call("files", 90, None),
    "chown": Call("files", 92, None),
    "creat": Call("files", 85, None),
    "fchmodat": Call("files", 268, 53),
    "fchmodat2": Call("files", 452, 452),
    "fchownat": Call("files", 260, 54),
    "file_setattr": Call("files", 469, 469),
    "futimesat": Call("files", 261, None),
    "lchown": Call("files", 94, None),
    "link": Call("files", 86, None),
    "linkat": Call("files", 265, 37),
    "lremovexattr": Call("files", 198, 15),
    "lsetxattr": Call("files", 189, 6),
    "mkdir": Call("files", 83, None),
    "mkdirat": Call("files", 258, 34),
    "mknod": Call("files", 133, None),
    "mknodat": Call("files", 259, 33),
    "openat2": Call("files", 437, 437),
    "removexattr": Call("files", 197, 14),
    "removexattrat": Call("files", 466, 466),
    "rename": Call("files", 82, None),
    "renameat": Call("files", 264, 38),
    "renameat2": Call("files", 316, 276),
    "rmdir": Call("files", 84, None),
    "setxattr": Call("files", 188, 5),
    "setxattrat": Call("files", 463, 463),
    "symlink": Call("files", 88, None),
    "symlinkat": Call("files", 266, 36),
    "truncate": Call("files", 76, 45),
    "unlink": Call("files", 87, None),
    "unlinkat": Call("files", 263, 35),
    "utime": Call("files", 132, None),
    "utimensat": Call("files", 280, 88),
    "utimes": Call("files", 235, None),
    "clone": Call("arguments", 56, 220),
    "clone3": Call("arguments", 435, 435),
    "ioctl": Call("arguments", 16, 29),
    "ioprio_set": Call("arguments", 251, 30),
    "kill": Call("arguments", 62, 129),
    "open": Call("arguments", 2, None),
    "openat": Call("arguments", 257, 56),
    "prctl": Call("arguments", 157, 167),
    "prlimit64": Call("arguments", 302, 261),
    "sched_setaffinity": Call("arguments", 203, 122),
    "sched_setattr": Call("arguments", 314, 274),
    "sched_setparam": Call("arguments", 142, 118),
    "sched_setscheduler": Call("arguments", 144, 119),
    "setpriority": Call("arguments", 141, 140),
    "tgkill": Call("arguments", 234, 131),
    "seccomp": Call("allowed", 317, 277),
}

NEWEST = 469
"""The last call that was judged for the lists above (Linux 6.17); both machines number alike since 424."""


@dataclass(frozen=True, slots=True)
class Jail:
    """A named list of system calls that are refused whatever their arguments, and of those judged by them."""

    name: str
    refused: frozenset[str]
    judged: frozenset[str]


def _of(*groups: str) -> frozenset[str]:
    return frozenset(call for call, row in CALLS.items() if row.group in groups)


WORKER = Jail("worker", _of(*_REASONS), _of("arguments"))
FRONT = Jail("front", WORKER.refused - _of("accepting"), WORKER.judged)  # on the socket that it was handed
# It makes sockets, starts programs and signals them, and its children, who inherit its filter, leave the
# host's namespaces and give up what they have.
CUSTODIAN = Jail(
    "custodian",
    _of("processes", "kernel", "machine", "namespaces") - {"unshare"},
    frozenset({"socket", "ioctl"}),
)

# Calls refused by their arguments: flags and options lie in the low 32 bits, all that the kernel reads.
CLONE_THREAD = 0x00010000
CLONE_NEW_NAMESPACES = 0x7E020000  # mount, cgroup, uts, ipc, user, pid, net
OPEN_TO_CHANGE = 0x3 | 0x40 | 0x200  # any access mode but reading (O_TMPFILE needs one), O_CREAT, O_TRUNC
REFUSED_PRCTL = (1, 4, 0x59616D61)  # PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_PTRACER: would undo the jail
CUSTODIAN_FAMILIES = (1, 16)  # AF_UNIX for clients and children, AF_NETLINK for the air-gap watch
SCHEDULES = ("sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler")
ONE_PROCESS = {"setpriority": 0, "ioprio_set": 1}  # PRIO_PROCESS, IOPRIO_WHO_PROCESS: no group, no user
REFUSED_IOCTL = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: type into the operator's terminal


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as uname names it, its audit constant, and the first number of a foreign table, if any."""

    name: str
    audit_arch: int
    foreign_from: int | None


MACHINES = {
    "x86_64": Machine("x86_64", 0xC000003E, 0x40000000),  # x32 calls share the audit constant
    "aarch64": Machine("aarch64", 0xC00000B7, None),
}

_LOAD, _AND, _JUMP_EQ, _JUMP_GE, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NO_CALL = 0xFFFFFFFF
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16  # struct seccomp_data


def number(machine: Machine, name: str) -> int | None:
    """Return a call's number on a machine, None where it has no such call."""
    row = CALLS[name]
    return row.x86_64 if machine.name == "x86_64" else row.aarch64


def program(jail: Jail, machine: Machine, pid: int) -> bytes:
    """Assemble the filter (struct sock_filter[]) for a process that signals and slows only itself, `pid`."""
    code = [_op(_LOAD, _ARCH_AT), _op(_JUMP_EQ, machine.audit_arch, 1, 0), _op(_RETURN, _KILL)]
    code += [_op(_LOAD, _NUMBER_AT)]
    if machine.foreign_from is not None:
        # -1 is no call, but one that a tracer had skipped; strace puts errors into calls that way.
        code += [_op(_JUMP_EQ, _NO_CALL, 0, 1), _op(_RETURN, _ENOSYS)]
        code += [_op(_JUMP_GE, machine.foreign_from, 0, 1), _op(_RETURN, _KILL)]
    code += [_op(_JUMP_GE, NEWEST + 1, 0, 1), _op(_RETURN, _ENOSYS)]
    for name in sorted(jail.refused):
        code += _for_call(number(machine, name), [_op(_RETURN, _EPERM)])
    for name, body in _by_argument(pid).items():
        if name in jail.judged:
            code += _for_call(number(machine, name), body)
    return b"".join([*code, _op(_RETURN, _ALLOW)])


def _by_argument(pid: int) -> dict[str, list[bytes]]:
    """Return the calls whose arguments decide, each with a body that always returns."""
    allow, refuse = _op(_RETURN, _ALLOW), _op(_RETURN, _EPERM)
    itself = [_op(_JUMP_EQ, 0, 1, 0), _op(_JUMP_EQ, pid, 0, 1), allow, refuse]
    thread_only = [_argument(0), _op(_AND, CLONE_THREAD | CLONE_NEW_NAMESPACES)]
    return {
        # A thread of this process and nothing else: a fork would shed the parent-death signal.
        "clone": [*thread_only, _op(_JUMP_EQ, CLONE_THREAD, 0, 1), allow, refuse],
        "clone3": [_op(_RETURN, _ENOSYS)],
        "kill": [_argument(0), _op(_JUMP_EQ, pid, 0, 1), allow, refuse],
        # By path for reading only: what is written goes to descriptors that were handed over.
        "open": [_argument(1), _op(_AND, OPEN_TO_CHANGE), _op(_JUMP_EQ, 0, 0, 1), allow, refuse],
        "openat": [_argument(2), _op(_AND, OPEN_TO_CHANGE), _op(_JUMP_EQ, 0, 0, 1), allow, refuse],
        "tgkill": [_argument(0), _op(_JUMP_EQ, pid, 0, 1), allow, refuse],  # abort() signals itself
        # What others get of the cores: a starved watch sees a network too late.
        **{name: [_argument(0), *itself] for name in SCHEDULES},
        **{
            name: [_argument(0), _op(_JUMP_EQ, which, 1, 0), refuse, _argument(1), *itself]
            for name, which in ONE_PROCESS.items()
        },
        "prctl": [_argument(0), *_refuse_values(REFUSED_PRCTL), allow],
        "ioctl": [_argument(1), *_refuse_values(REFUSED_IOCTL), allow],
        "socket": [
            _argument(0),
            *(op for family in CUSTODIAN_FAMILIES for op in (_op(_JUMP_EQ, family, 0, 1), allow)),
            refuse,
        ],
        # Reading limits is fine; setting any would bring core dumps back for a process of root.
        "prlimit64": [
            _argument(2),
            _op(_JUMP_EQ, 0, 0, 3),
            _op(_LOAD, _ARGUMENTS_AT + 2 * 8 + 4),
            _op(_JUMP_EQ, 0, 0, 1),
            allow,
            refuse,
        ],
    }


def _for_call(call: int | None, body: list[bytes]) -> list[bytes]:
    return [] if call is None else [_op(_JUMP_EQ, call, 0, len(body)), *body]


def _refuse_values(values: tuple[int, ...]) -> list[bytes]:
    return [op for value in values for op in (_op(_JUMP_EQ, value, 0, 1), _op(_RETURN, _EPERM))]


def _argument(index: int) -> bytes:
    return _op(_LOAD, _ARGUMENTS_AT + 8 * index)  # the low half: both machines are little-endian


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
