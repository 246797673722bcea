"""The jail, tried from inside by a process that wants out."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance import sandbox, seccomp
from appliance.errors import JailError
from appliance.sandbox import Applied, Restriction
from appliance.seccomp import CALLS, MACHINES
from tests import jails

# A child that jails itself, then tries each attack: the errno it got, or what it got away with.
ATTACKER = r"""
import ctypes, errno, json, mmap, os, resource, signal, socket, subprocess, sys, tempfile, threading
from appliance import sandbox, seccomp

jail = getattr(sandbox, sys.argv[1])
machine = seccomp.MACHINES[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
listener = socket.socket(socket.AF_UNIX)
listener.bind("")
listener.listen()
waiting = socket.socket(socket.AF_UNIX)
waiting.connect(listener.getsockname())
fresh = socket.socket(socket.AF_UNIX)
given, far = socket.socketpair()
one = (ctypes.c_uint64 * 2)(1, 1)
output = tempfile.TemporaryFile()
def raw(name, *arguments):
    call = seccomp.number(machine, name)
    if call is None:
        raise OSError(errno.EPERM, "no such call here")
    if libc.syscall(ctypes.c_long(call), *[ctypes.c_long(a) for a in arguments]) < 0:
        raise OSError(ctypes.get_errno(), name)

def prctl(option, value):
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")

def outcome(attack):
    try:
        attack()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "got through"

attacks = {
    "inet": lambda: socket.socket(socket.AF_INET),
    "inet udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "inet6": lambda: socket.socket(socket.AF_INET6),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "vsock": lambda: socket.socket(40),
    "socketpair": socket.socketpair,
    "connect": lambda: fresh.connect(listener.getsockname()),
    "bind": lambda: fresh.bind(""),
    "listen": lambda: fresh.listen(),
    "accept": lambda: listener.accept(),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "fexec": lambda: os.execve(os.open("/bin/true", os.O_RDONLY), ["true"], {}),
    "subprocess": lambda: subprocess.run(["/bin/true"], check=True),
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": lambda: os.fork() or os._exit(0),
    "kill parent": lambda: os.kill(parent, 0),
    "kill init": lambda: os.kill(1, 0),
    "kill everyone": lambda: os.kill(-1, 0),
    "kill group": lambda: os.killpg(os.getpgid(parent), 0),
    "tgkill parent": lambda: raw("tgkill", parent, parent, 0),
    "tkill parent": lambda: raw("tkill", parent, 0),
    "queue a signal": lambda: raw("rt_sigqueueinfo", parent, 0, 0),
    "pidfd": lambda: os.pidfd_open(parent),
    "pidfd signal": lambda: raw("pidfd_send_signal", 0, 0, 0, 0),
    "pidfd_getfd": lambda: raw("pidfd_getfd", 0, 0, 0),
    "ptrace": lambda: raw("ptrace", 0x4206, parent, 0, 0),
    "read a process": lambda: raw("process_vm_readv", parent, 0, 0, 0, 0, 0),
    "write a process": lambda: raw("process_vm_writev", parent, 0, 0, 0, 0, 0),
    "kcmp": lambda: raw("kcmp", parent, os.getpid(), 0, 0, 0),
    "user namespace": lambda: raw("unshare", 0x10000000),
    "net namespace": lambda: raw("unshare", 0x40000000),
    "setns": lambda: raw("setns", os.open("/proc/self/ns/net", os.O_RDONLY), 0),
    "thread in a namespace": lambda: raw("clone", 0x10000000 | 0x10000, 0, 0, 0, 0),
    "clone3": lambda: raw("clone3", 0, 0),
    "mount": lambda: raw("mount", 0, 0, 0, 0, 0),
    "chroot": lambda: os.chroot("/"),
    "bpf": lambda: raw("bpf", 0, 0, 0),
    "perf": lambda: raw("perf_event_open", 0, 0, -1, -1, 0),
    "io_uring": lambda: raw("io_uring_setup", 1, 0),
    "userfaultfd": lambda: raw("userfaultfd", 0),
    "keyctl": lambda: raw("keyctl", 0, -3, 0),
    "module": lambda: raw("finit_module", 0, 0, 0),
    "kexec": lambda: raw("kexec_load", 0, 0, 0, 0),
    "open by handle": lambda: raw("open_by_handle_at", -100, 0, 0),
    "personality": lambda: raw("personality", 0xFFFFFFFF),
    "clock": lambda: raw("clock_settime", 0, 0),
    "dumpable again": lambda: prctl(4, 1),
    "outlive the parent": lambda: prctl(1, 0),
    "invite a tracer": lambda: prctl(0x59616D61, -1),
    "core dumps again": lambda: raw("setrlimit", resource.RLIMIT_CORE, ctypes.addressof(one)),
    "core dumps anew": lambda: raw("prlimit64", 0, resource.RLIMIT_CORE, ctypes.addressof(one), 0),
    "another's limits": lambda: raw("prlimit64", parent, resource.RLIMIT_CORE, ctypes.addressof(one), 0),
    "read a file": lambda: open("/etc/passwd").read(),
    "read a file through itself": lambda: open("/proc/self/root/etc/passwd").read(),
    "list a folder": lambda: os.listdir("/"),
    "memory that turns executable": lambda: mmap.mmap(-1, 4096, prot=7),
    "type into the terminal": lambda: __import__("fcntl").ioctl(0, 0x5412, b"x"),
}
allowed = {
    "read about itself": lambda: open("/proc/self/status").read(),
    "write to an open descriptor": lambda: output.write(b"x"),
    "random": lambda: os.urandom(16),
    "signal itself": lambda: os.kill(os.getpid(), 0),
    "read limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    "use a socket it was given": lambda: given.send(b"x"),
}

applied = sandbox.apply(jail)
results = {name: outcome(attack) for name, attack in (attacks | allowed).items()}
later = threading.Thread(target=lambda: results.update({"thread": "got through"}))
later.start()
later.join()
if sys.argv[1] == "WORKER":
    import numpy
    matrix = numpy.arange(600 * 600, dtype=numpy.float64).reshape(600, 600) % 7
    product = matrix @ matrix
    results["numpy"] = bool(abs(product[3, 5] - sum(matrix[3, k] * matrix[k, 5] for k in range(600))) < 1e-6)
    results["numpy threads"] = len(os.listdir("/proc/self/task"))
print(json.dumps({"took": applied.took, "missing": applied.missing, "results": results}))
"""
ALLOWED = {
    "read about itself",
    "write to an open descriptor",
    "random",
    "signal itself",
    "read limits",
    "use a socket it was given",
    "thread",
}
EVERY = {
    *("namespaces", "no-capabilities", "own-user", "no-new-privileges", "not-dumpable", "no-core-dump"),
    *("dies-with-parent", "no-new-code", "files", "system-calls"),
}


BY_LANDLOCK = ("read a file", "read a file through itself", "list a folder", "fexec")


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )


@pytest.fixture(scope="module", params=["WORKER", "FRONT"])
def tried(request):
    done = run(ATTACKER, request.param, OPENBLAS_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_every_attack_from_inside_is_refused_with_eperm(tried):
    jail, found = tried
    results = found["results"]
    expected = {name: "EPERM" for name in results if name not in ALLOWED and not name.startswith("numpy")}
    expected |= dict.fromkeys(BY_LANDLOCK, "EACCES" if "files" not in jails.missing() else "got through")
    if "no-new-code" in jails.missing():
        del expected["memory that turns executable"]
    else:
        expected["memory that turns executable"] = "EACCES"
    expected["clone3"] = "ENOSYS"  # so that the C library falls back to clone, whose flags can be seen
    if jail == "FRONT":
        expected["accept"] = "got through"
    assert {name: results[name] for name in expected} == expected


def test_what_a_worker_needs_still_works(tried):
    jail, found = tried
    results = found["results"]
    assert {name: results[name] for name in ALLOWED} == dict.fromkeys(ALLOWED, "got through")
    if jail == "WORKER":
        assert results["numpy"] is True
        assert results["numpy threads"] >= 2, "OpenBLAS started no thread: the test shows nothing"


def test_every_restriction_took_and_was_tried(tried):
    _, found = tried
    assert set(found["took"]) | set(found["missing"]) | {"own-user"} == EVERY
    assert set(found["missing"]) - {"own-user"} == jails.missing()


def test_a_thread_that_runs_already_is_under_the_filter_and_is_told_to_keep_its_files():
    script = """
import threading, socket
from appliance import sandbox
go, done = threading.Event(), []
def early():
    go.wait()
    try:
        socket.socket()
    except PermissionError:
        done.append("refused")
thread = threading.Thread(target=early)
thread.start()
applied = sandbox.apply(sandbox.WORKER)
go.set()
thread.join()
(files,) = [item for item in applied.restrictions if item.name == "files"]
print(done, files.took, files.detail)
"""
    assert run(script).stdout == "['refused'] False 2 threads run already, and would keep their files\n"


@pytest.mark.parametrize("jail", [sandbox.WORKER, sandbox.FRONT])
def test_the_proof_fails_where_no_filter_was_loaded(jail):
    found = sandbox.prove_filter(jail, MACHINES[os.uname().machine])
    assert found.startswith("no filter in /proc/self/task/")


def test_the_proof_fails_where_the_filter_lets_one_call_through():
    script = """
from appliance import sandbox
weaker = sandbox.Jail("worker", sandbox.WORKER.refused - {"socket"}, sandbox.WORKER.judged)
sandbox.apply(weaker)
print(sandbox.prove_filter(sandbox.WORKER, sandbox.MACHINES[__import__("os").uname().machine]))
"""
    assert re.match(r"expected EPERM from socket, found E(INVAL|AFNOSUPPORT)", run(script).stdout)


@pytest.mark.parametrize(
    ("setup", "missing", "detail", "refused"),
    [
        (
            "sandbox.MACHINES.clear()",
            "system-calls",
            "UNKNOWN: no table of system calls",
            ["development", "isolated"],
        ),
        ("sandbox._filter = lambda *_: ''", "system-calls", "no filter in", ["development", "isolated"]),
        ("sandbox._no_core = lambda: ''", "no-core-dump", "expected a core limit of 0", ["isolated"]),
        ("parent = 1", "dies-with-parent", "expected parent 1, found", ["isolated"]),
    ],
)
def test_a_restriction_that_did_not_take_is_reported_and_refused(setup, missing, detail, refused):
    script = f"""
import json, resource
from appliance import sandbox
from appliance.errors import JailError
resource.setrlimit(resource.RLIMIT_CORE, (1, resource.getrlimit(resource.RLIMIT_CORE)[1]))
parent = None
{setup}
applied = sandbox.apply(sandbox.WORKER, parent=parent)
refusals = {{}}
for profile in ("development", "isolated"):
    try:
        applied.demand(profile)
    except JailError as error:
        refusals[profile] = str(error)
print(json.dumps([applied.missing, refusals]))
"""
    done = run(script)
    assert done.returncode == 0, done.stderr
    found, refusals = json.loads(done.stdout)
    hosts_own = set(jails.missing())
    assert set(found) - hosts_own - {"own-user"} == {missing}
    assert list(refusals) == refused or hosts_own
    assert all(f"{missing}: {detail}" in text for text in refusals.values())


def test_each_profile_demands_what_the_design_says():
    assert sandbox.required("isolated") == EVERY - {"own-user", "no-new-code"}
    assert sandbox.RESTRICTIONS == EVERY
    assert sandbox.required("development") == {"no-new-privileges", "not-dumpable", "system-calls"}
    with pytest.raises(JailError, match="expected the profile to be one of"):
        sandbox.required("relaxed")


def test_a_jail_that_holds_is_passed_on():
    applied = Applied("worker", tuple(Restriction(name, took=True, detail="tried") for name in EVERY))
    assert applied.demand("isolated") is applied


def test_a_jailed_process_dies_with_its_parent(tmp_path):
    script = f"""
import os, subprocess, sys, time
child = "from appliance import sandbox; import time; sandbox.apply(sandbox.WORKER).demand('development'); " \\
        "print('jailed', flush=True); time.sleep(60)"
started = subprocess.Popen([sys.executable, "-I", "-c", child], stdout=subprocess.PIPE)
started.stdout.readline()
open({str(tmp_path / "pid")!r}, "w").write(str(started.pid))
os.kill(os.getpid(), 9)
"""
    assert run(script).returncode == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs: an unreaped one does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def test_a_custodian_closes_its_memory_and_keeps_its_sockets():
    script = """
import ctypes, resource, socket, subprocess
from appliance import sandbox
sandbox.protect_memory()
socket.socketpair()
subprocess.run(["/bin/true"], check=True)
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
sandbox._set = lambda *_: ""
sandbox._prove_not_dumpable = lambda: "expected dumpable 0, found 1"
sandbox.protect_memory()
"""
    done = run(script)
    assert done.stdout == "0 (0, 0)\n"
    assert (
        "JailError: expected the custodian's memory closed to others, found expected dumpable 0"
        in done.stderr
    )


JAILED = "import os\nfrom appliance import sandbox\nsandbox.apply(sandbox.WORKER).demand('development')\n"


def test_a_jailed_process_can_still_abort():
    assert run(JAILED + "os.abort()").returncode == -signal.SIGABRT


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 exists on x86-64 only")
def test_a_call_by_the_foreign_table_ends_the_process():
    getpid_x32 = 0x40000000 + 39
    script = JAILED + f"import ctypes\nctypes.CDLL(None).syscall(ctypes.c_long({getpid_x32}))\nprint('alive')"
    done = run(script)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, "")


# The filter as a value, run by a small interpreter: both machines are checked on either.

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
PID = 4242


def run_filter(program: bytes, number: int, arch: int, *arguments: int) -> int:
    """Interpret a classic BPF program over struct seccomp_data."""
    padded = [argument % 2**64 for argument in arguments] + [0] * (6 - len(arguments))
    data = struct.pack("<IIQ6Q", number % 2**32, arch, 0, *padded)
    operations = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = operations[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            at += if_true if accumulator == value else if_false
        elif code == 0x35:
            at += if_true if accumulator >= value else if_false
        else:
            assert code == 0x06
            return value


@pytest.fixture(params=["x86_64", "aarch64"])
def judge(request):
    machine = MACHINES[request.param]
    program = seccomp.program(seccomp.WORKER, machine, PID)

    def judge(name: str, *arguments: int) -> int:
        return run_filter(program, seccomp.number(machine, name), machine.audit_arch, *arguments)

    judge.machine, judge.program = machine, program
    return judge


def test_every_listed_call_is_refused_on_every_machine(judge):
    for name, row in CALLS.items():
        if seccomp.number(judge.machine, name) is not None and row.group not in ("arguments", "allowed"):
            assert judge(name) == EPERM, name


def test_only_threads_of_this_process_may_be_made(judge):
    pthread_flags = 0x003D0F00
    assert judge("clone", pthread_flags) == ALLOW
    assert judge("clone", signal.SIGCHLD) == EPERM
    assert judge("clone", 0x4111) == EPERM, "vfork through clone"
    for namespace in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert judge("clone", pthread_flags | namespace) == EPERM
    assert judge("clone3") == ENOSYS


def test_files_are_opened_by_path_for_reading_only(judge):
    closing, directory, create, truncate, nameless = 0x80000, 0x10000, 0x40, 0x200, 0x400000 | 0x10000
    flags_of = {"openat": lambda flags: (-100, 0, flags), "open": lambda flags: (0, flags)}
    for name, arguments in flags_of.items():
        if seccomp.number(judge.machine, name) is None:
            continue
        for harmless in (0, closing, directory | closing):
            assert judge(name, *arguments(harmless)) == ALLOW
        for flags in (1, 2, 3, create, truncate, create | 2 | closing, nameless | 1, 2**32 + 1):
            assert judge(name, *arguments(flags)) == EPERM, (name, hex(flags))


def test_only_this_process_may_be_signalled(judge):
    for name in ("kill", "tgkill"):
        assert judge(name, PID) == ALLOW
        assert judge(name, 2**32 + PID) == ALLOW, "the kernel reads 32 bits, and so does the filter"
        for other in (PID + 1, 1, 0, -1, -PID):
            assert judge(name, other) == EPERM


def test_only_this_process_may_be_scheduled(judge):
    for name in ("sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"):
        assert [judge(name, pid) for pid in (0, PID)] == [ALLOW] * 2
        assert [judge(name, other) for other in (PID + 1, 1, -1, 2**32 + 1)] == [EPERM] * 4, name
    for name, process in (("setpriority", 0), ("ioprio_set", 1)):
        assert [judge(name, process, pid) for pid in (0, PID)] == [ALLOW] * 2
        assert [judge(name, process, other) for other in (PID + 1, 1, -1)] == [EPERM] * 3, name
        for which in {0, 1, 2, 3} - {process}:
            assert [judge(name, which, whose) for whose in (0, PID, 1)] == [EPERM] * 3, "a group, or a user"


def test_a_call_that_nobody_judged_is_no_call(judge):
    assert max(number for row in CALLS.values() for number in (row.x86_64, row.aarch64) if number) == (
        seccomp.NEWEST
    )
    for call in (seccomp.NEWEST + 1, 512, 520, 547, 1000, 0x3FFFFFFF):  # 512 to 547: x32's, without its bit
        assert run_filter(judge.program, call, judge.machine.audit_arch) == ENOSYS, call
    last = KILL if judge.machine.foreign_from else ENOSYS
    assert run_filter(judge.program, 2**32 - 1, judge.machine.audit_arch) == ENOSYS, "what a tracer skipped"
    for call in (0x40000000 + seccomp.NEWEST + 1, 0x40000000 + 520, 2**32 - 2):
        assert run_filter(judge.program, call, judge.machine.audit_arch) == last, call


def test_the_custodian_has_no_call_that_nobody_judged_either():
    for machine in MACHINES.values():
        program = seccomp.program(seccomp.CUSTODIAN, machine, PID)
        assert run_filter(program, seccomp.NEWEST + 1, machine.audit_arch) == ENOSYS


def test_limits_are_read_but_not_set(judge):
    assert judge("prlimit64", 0, 4, 0, 1) == ALLOW
    assert judge("prlimit64", 0, 4, 0x7FFF12345678) == EPERM
    assert judge("prlimit64", 0, 4, 1 << 32) == EPERM, "a pointer whose low half is zero"


def test_only_options_that_undo_the_jail_are_refused(judge):
    set_name = 15
    assert judge("prctl", set_name) == ALLOW
    assert [judge("prctl", option) for option in (1, 4, 0x59616D61, 2**32 + 4)] == [EPERM] * 4
    assert judge("ioctl", 0, 0x5401) == ALLOW
    assert [judge("ioctl", 0, request) for request in (0x5412, 0x541C)] == [EPERM] * 2


def test_a_foreign_architecture_is_killed(judge):
    for arch in {0x40000003, 0xC000003E, 0xC00000B7, 0} - {judge.machine.audit_arch}:
        assert run_filter(judge.program, 1, arch) == KILL
    if judge.machine.foreign_from:
        assert run_filter(judge.program, 0x40000000, judge.machine.audit_arch) == KILL


def test_the_front_differs_from_the_worker_in_accepting_only():
    assert seccomp.WORKER.refused - seccomp.FRONT.refused == {"accept", "accept4"}
    assert seccomp.FRONT.refused <= seccomp.WORKER.refused


@pytest.mark.parametrize(
    ("header", "machine"),
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "x86_64"),
        ("/usr/include/asm-generic/unistd.h", "aarch64"),
    ],
)
def test_the_numbers_are_those_of_the_kernel_headers(header, machine):
    if not Path(header).exists():
        pytest.skip(f"SKIPPED ALOUD: {header} is not installed (linux-libc-dev)")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    newest = max(int(number) for name, number in defined.items() if name != "syscalls")
    for name in CALLS:
        number = seccomp.number(MACHINES[machine], name)
        if number is not None and number > newest:
            continue  # headers older than the call; later ones number it
        assert (None if name not in defined else int(defined[name])) == number, name


# What the custodian may do, and the parts of the jail by themselves.


def test_the_custodian_keeps_its_sockets_and_programs_and_loses_the_rest():
    script = """
import ctypes, errno, os, socket, subprocess, sys
from appliance import sandbox, seccomp
libc = ctypes.CDLL(None, use_errno=True)
print(sandbox.confine().missing)
socket.socket(socket.AF_UNIX); socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); socket.socketpair()
subprocess.run(["/bin/true"], check=True)
for family in (socket.AF_INET, socket.AF_INET6, 40, socket.AF_PACKET):
    try:
        socket.socket(family, socket.SOCK_RAW)
    except PermissionError:
        continue
    print("got a socket of family", family)
machine = seccomp.MACHINES[os.uname().machine]
for name in ("ptrace", "process_vm_readv", "bpf", "io_uring_setup", "mount", "setns", "kexec_load", "swapon"):
    result = libc.syscall(ctypes.c_long(seccomp.number(machine, name)), -1, -1, -1, -1, -1)
    if result >= 0 or ctypes.get_errno() != errno.EPERM:
        print("got through", name)
again = "from appliance import sandbox; print(sandbox.confine().missing, " \\
        "[line for line in open('/proc/self/status') if 'Seccomp_filters' in line], " \\
        "'system-calls' in sandbox.apply(sandbox.WORKER).took)"
sys.stdout.flush()
os.execv(sys.executable, [sys.executable, "-I", "-c", again])
"""
    done = run(script)
    assert done.stdout == "()\n() ['Seccomp_filters:\\t1\\n'] True\n", done.stdout + done.stderr


def test_a_capability_that_is_left_is_told():
    held = run("from appliance import privileges; print(privileges.held())").stdout
    assert held.startswith("expected no capability, found (") if os.getuid() == 0 else held
    script = "from appliance import privileges; print([privileges.drop(), privileges.held()])"
    assert run(script).stdout == "['', '']\n"


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_a_jail_of_root_becomes_an_account_of_its_own():
    script = """
import os, pwd, types
from appliance import sandbox
pwd.getpwnam = lambda name: types.SimpleNamespace(pw_uid=64321, pw_gid=64321)
applied = sandbox.apply(sandbox.WORKER)
print(sorted(applied.missing), os.getresuid(), os.getresgid(), os.getgroups())
"""
    done = run(script)
    own = "(64321, 64321, 64321)"
    assert done.stdout == f"{sorted(jails.missing())} {own} {own} []\n", done.stderr


def test_namespaces_that_are_forbidden_are_told():
    script = """
from appliance import namespaces
namespaces._libc = type("Refusing", (), {"unshare": staticmethod(lambda flags: -1)})()
print(namespaces.enter())
"""
    assert run(script).stdout.startswith("unshare gave ")


def test_a_kernel_without_landlock_is_told():
    script = """
from appliance import landlock, sandbox
landlock.abi = lambda: 0
applied = sandbox.apply(sandbox.WORKER)
print([item.detail for item in applied.restrictions if item.name == "files"], applied.landlock_abi)
try:
    applied.demand("isolated")
except Exception as refused:
    print(type(refused).__name__)
applied.demand("development")
"""
    expected = "['the kernel has no Landlock, or it is switched off'] 0\nJailError\n"
    assert run(script).stdout == expected
