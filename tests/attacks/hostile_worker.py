"""What a worker runs whose task was taken over: every way out that it can think of, tried from the inside.

Run as a task it prints, as JSON, each attempt and the errno that refused it. It is no test itself:
test_process_hostile_worker.py starts it in a process of its own, whose parent must survive it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from appliance.seccomp import MACHINES, number
from appliance.worklink import Finished

_libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
TIOCSTI = 0x5412
AT_FDCWD, IOPRIO_WHO_PROCESS = -100, 1
# What nothing but Landlock refuses: where a host has none, the jail of `development` lets them be.
READS = {
    *("a file of the host", "a file through its own root", "a folder", "a device"),
    "its memory by another name",
}
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def call(name: str, *arguments: int) -> None:
    """Make a system call by its name; raises OSError as the kernel answers."""
    found = number(MACHINES[platform.machine()], name)
    if found is None:
        raise OSError(errno.ENOSYS, "this machine has no such call")
    result = _libc.syscall(ctypes.c_long(found), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)


def prctl(option: int, value: int) -> None:
    call("prctl", option, value, 0, 0, 0)


def read_memory_of(pid: int) -> None:
    """process_vm_readv: one byte from wherever we have memory ourselves; addresses are likely alike."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    vector = (ctypes.c_ulong * 2)(address, 1)
    call("process_vm_readv", pid, ctypes.addressof(vector), 1, ctypes.addressof(vector), 1, 0)


def allow_cores() -> None:
    unlimited = (ctypes.c_ulong * 2)(2**64 - 1, 2**64 - 1)
    call("prlimit64", 0, resource.RLIMIT_CORE, ctypes.addressof(unlimited), 0)


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def by_path(name: str, *arguments: int) -> None:
    """Make a call on a file in a folder, which is not there."""
    path = ctypes.create_string_buffer(b"/nonexistent/file")
    call(name, AT_FDCWD, ctypes.addressof(path), *arguments)


def slowing(victim: int) -> dict[str, Callable[[], object]]:
    """Each way to decide what another gets of the cores and the disk; asks for what it has already."""
    param = (ctypes.c_int * 1)(0)
    attributes = (ctypes.c_uint32 * 12)(48)  # struct sched_attr: its size, then SCHED_OTHER, nice 0
    return {
        "its cores": lambda: os.sched_setaffinity(victim, os.sched_getaffinity(victim)),
        "its class": lambda: os.sched_setscheduler(
            victim, os.sched_getscheduler(victim), os.sched_getparam(victim)
        ),
        "its parameters": lambda: call("sched_setparam", victim, ctypes.addressof(param)),
        "its attributes": lambda: call("sched_setattr", victim, ctypes.addressof(attributes), 0),
        "its turn": lambda: os.setpriority(os.PRIO_PROCESS, victim, os.getpriority(os.PRIO_PROCESS, victim)),
        "its turn at the disk": lambda: call("ioprio_set", IOPRIO_WHO_PROCESS, victim, 0),
        "its user's turn": lambda: os.setpriority(os.PRIO_USER, 0, 19),
        "its group's turn": lambda: os.setpriority(os.PRIO_PGRP, 0, 19),
    }


def attacks(victim: int) -> dict[str, Callable[[], object]]:
    """Every attempt; each raises OSError where it is refused."""
    sockets = {
        name: (lambda family=family, kind=kind: socket.socket(family, kind).close())
        for name, family, kind in (
            ("tcp", socket.AF_INET, socket.SOCK_STREAM),
            ("udp over IPv6", socket.AF_INET6, socket.SOCK_DGRAM),
            ("unix", socket.AF_UNIX, socket.SOCK_STREAM),
            ("netlink", socket.AF_NETLINK, socket.SOCK_RAW),
            ("packet", socket.AF_PACKET, socket.SOCK_RAW),
            ("vsock", socket.AF_VSOCK, socket.SOCK_STREAM),
        )
    }
    return {
        **sockets,
        "socketpair": lambda: [end.close() for end in socket.socketpair()],
        "ptrace attach": lambda: call("ptrace", PTRACE_ATTACH, victim, 0, 0),
        "ptrace seize": lambda: call("ptrace", PTRACE_SEIZE, victim, 0, 0),
        "kill": lambda: os.kill(victim, signal.SIGKILL),
        "kill everybody": lambda: os.kill(-1, 0),
        "tgkill": lambda: call("tgkill", victim, victim, signal.SIGKILL),
        "pidfd": lambda: os.pidfd_open(victim),
        "read its memory by call": lambda: read_memory_of(victim),
        "read its memory by file": lambda: Path(f"/proc/{victim}/mem").open("rb").close(),
        "write its memory by file": lambda: Path(f"/proc/{victim}/mem").open("r+b").close(),
        "its environment": lambda: Path(f"/proc/{victim}/environ").read_bytes(),
        "its descriptors": lambda: Path(f"/proc/{victim}/fd/2").readlink(),
        "a descriptor of its": lambda: call("pidfd_getfd", 0, 0, 0),
        "its memory by another name": lambda: Path(f"/proc/{victim}/root/etc/passwd").read_bytes(),
        "a file of the host": lambda: Path("/etc/passwd").read_bytes(),
        "a file through its own root": lambda: Path("/proc/self/root/etc/passwd").read_bytes(),
        "a folder": lambda: os.listdir("/"),  # noqa: PTH208  a listing is what is tried
        "a device": lambda: Path("/dev/kmsg").open("rb").close(),
        "fork": fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606  refused, or the test fails
        "be dumped again": lambda: prctl(PR_SET_DUMPABLE, 1),
        "outlive the parent": lambda: prctl(PR_SET_PDEATHSIG, 0),
        "cores again": allow_cores,
        "user namespace": lambda: call("unshare", CLONE_NEWUSER),
        "join a network": lambda: call("setns", 0, CLONE_NEWNET),
        "mount": lambda: call("mount", 0, 0, 0, 0, 0),
        "chroot": lambda: os.chroot("/"),
        "bpf": lambda: call("bpf", 0, 0, 0),
        "io_uring": lambda: call("io_uring_setup", 1, 0),
        "userfaultfd": lambda: call("userfaultfd", 0),
        "perf": lambda: call("perf_event_open", 0, 0, -1, -1, 0),
        "keys of the kernel": lambda: call("keyctl", 0, -2, 0),
        "personality": lambda: call("personality", 0xFFFFFFFF),
        "file handles": lambda: call("open_by_handle_at", -100, 0, 0),
        "type into a terminal": lambda: call("ioctl", 0, TIOCSTI, 0),
        "write plaintext to a new file": lambda: Path(f"{__file__}.plaintext").open("xb").close(),
        "change a program": lambda: Path(__file__).open("r+b").close(),
        "append to a log": lambda: Path(__file__).open("ab").close(),
        "a file without a name": lambda: os.close(os.open(Path(__file__).parent, os.O_TMPFILE | os.O_WRONLY)),
        "cut a file": lambda: os.truncate("/nonexistent/file", 0),
        "remove a file": lambda: Path("/nonexistent/file").unlink(),
        "rename a file": lambda: Path("/nonexistent/file").rename("/nonexistent/other"),
        "make a folder": lambda: Path("/nonexistent/folder").mkdir(),
        "link": lambda: Path("/nonexistent/link").hardlink_to("/nonexistent/file"),
        "link by name": lambda: Path("/nonexistent/link").symlink_to("/nonexistent/file"),
        "open a file to others": lambda: Path("/nonexistent/file").chmod(0o666),
        "open a file to others by a newer call": lambda: by_path("fchmodat2", 0o666, 0),
        "label a file": lambda: by_path("setxattrat", 0, 0, 0, 0),
        "take a label off": lambda: by_path("removexattrat", 0, 0),
        "set a file's attributes": lambda: by_path("file_setattr", 0, 0, 0),
        **slowing(victim),
        "load a module": lambda: call("finit_module", -1, 0, 0),
    }


def attempt(chosen: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Try each; return the name of the errno, or SUCCESS."""
    outcomes = {}
    for name, attack in chosen.items():
        try:
            attack()
            outcomes[name] = "SUCCESS"
        except OSError as refused:
            outcomes[name] = errno.errorcode.get(refused.errno or 0, str(refused.errno))
    return outcomes


def run(channel: object, _begin: object) -> None:
    """Be the task of a worker."""
    sys.stdout.write(json.dumps(attempt(attacks(os.getppid()))))
    sys.stdout.flush()
    channel.send(Finished(0, stopped=False))
