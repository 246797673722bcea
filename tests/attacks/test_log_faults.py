"""The kernel fails or kills a log at each call that changes its disk: what was answered is there after.

The n-th write, sync, rename, open or folder call of a real process returns EIO or ENOSPC, once or from then
on, or is the last thing it did. Then the log is opened, and so recovered, goes on, and is verified as an
auditor does it. `make test` takes some of these points, spread over all; `make crash` takes every one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import audit.__main__
from audit.log import Log
from audit.receipt import verify_receipt
from tests.attacks.log_appender import GROUPS, SIGNER, TRACED, leave_unpublished, record

pytestmark = pytest.mark.timeout(1800 if os.environ.get("CRASH_EVERY_POINT") else 120)

ROOT = Path(__file__).parents[2]
CALLS = ("pwrite64", "fdatasync", "fsync", "rename", "openat", "mkdirat", "unlinkat")
SPELLED = {"rename": "/^rename(at2?)?$"}  # which of the three it is, the machine decides
FAULTS = {
    "EIO once": "error=EIO:when={0}",
    "EIO from then on": "error=EIO:when={0}+",
    "ENOSPC once": "error=ENOSPC:when={0}",
    "ENOSPC from then on": "error=ENOSPC:when={0}+",
    "SIGKILL": "signal=KILL:when={0}",
}
PHASES = ("create", "reopen", "append")
POINTS_IN_MAKE_TEST = 3  # of each call in each phase under each fault: the first, the last, one between


class Faults:
    """Lives one phase at a time in a traced process, on a file system without a disk where there is one."""

    def __init__(self, folder, strace):
        self.folder = folder
        self.strace = strace
        self.made = 0
        for phase in PHASES:
            self.prepare(folder / phase, phase)
        self.said = (folder / "said").open("w+")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.log_appender"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,  # not a pipe: nobody would empty it
            cwd=ROOT,
            text=True,
        )

    def prepare(self, home, phase):
        if phase == "append":
            Log.create(home, SIGNER).close()
        elif phase == "reopen":
            leave_unpublished(home)

    def live(self, phase, *options):
        """Returns the folder and how the process ended, once the tracer has seen it through."""
        self.made += 1
        home = self.folder / f"{phase}-{self.made}"
        if (self.folder / phase).exists():
            shutil.copytree(self.folder / phase, home)
        self.server.stdin.write(json.dumps([str(home), phase]) + "\n")
        self.server.stdin.flush()
        pid = self.server.stdout.readline().strip()
        calls = ",".join(["getsid", *(SPELLED.get(call, call) for call in CALLS)])
        traced = [self.strace, "-f", "-qq", "-e", f"trace={calls}", "-e", f"inject=getsid:retval={TRACED}"]
        tracer = subprocess.run(
            [*traced, "-o", f"{home}.trace", *options, "-p", pid], capture_output=True, text=True, check=False
        )
        status = self.server.stdout.readline()
        assert status, f"strace: {tracer.stderr}"
        return home, int(status)

    def points(self, phase):
        """How many times each call is made by the thread that makes it most, in a life without faults."""
        home, status = self.live(phase)
        assert status == 0
        counted = Counter()
        for line in Path(f"{home}.trace").read_text().splitlines():
            thread, called = line.split(maxsplit=1)
            name = called.partition("(")[0]
            counted["rename" if name.startswith("rename") else name, thread] += 1
        return {call: max(n for (name, _), n in counted.items() if name == call) for call in CALLS}

    def last_words(self):
        self.said.seek(0)
        return self.said.read()[-2000:]

    def close(self):
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
        self.said.close()


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: faults of the kernel are not injected")
    shared = Path("/dev/shm")  # noqa: S108  a folder of our own is made below it
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        if subprocess.run(
            [strace, "-qq", "-e", "trace=none", "true"], capture_output=True, check=False
        ).returncode:
            pytest.skip("strace may not trace here: faults of the kernel are not injected")
        made = Faults(Path(folder), strace)
        yield made
        made.close()


def chosen(count):
    if os.environ.get("CRASH_EVERY_POINT"):
        return range(1, count + 1)
    return sorted({1 + (count - 1) * i // (POINTS_IN_MAKE_TEST - 1) for i in range(POINTS_IN_MAKE_TEST)})


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_fault_at_any_call_loses_nothing_that_was_answered(faults, phase, fault):
    points = faults.points(phase)
    least = {"pwrite64": 20, "fdatasync": 5, "fsync": 20, "rename": 10, "openat": 20}
    if phase == "append":  # nothing is tested where the calls are no longer these
        assert all(points[call] >= count for call, count in least.items()), points
    tried = 0
    for call in CALLS:
        for n in chosen(points[call]):
            inject = f"inject={SPELLED.get(call, call)}:{FAULTS[fault].format(n)}"
            home, status = faults.live(phase, "-e", inject)
            context = f"{phase}: {fault} at {call} number {n}"
            assert status in ({-9} if fault == "SIGKILL" else {13, 17}), (context, faults.last_words())
            demand_recovered(home, phase, context, may_say_full="ENOSPC" in fault)
            tried += 1
    print(f"{phase}, {fault}: {tried} of {sum(points.values())} points")


def demand_recovered(home, phase, context, *, may_say_full):
    """What was answered is there; of what was not, whole groups or nothing; it goes on; an auditor agrees."""
    answers = Path(f"{home}.answers")
    answered = [json.loads(line) for line in answers.read_text().splitlines()] if answers.exists() else []
    begun = 290 if phase == "reopen" else 0
    if (home / "wal").exists():
        log = Log.open(home, SIGNER)
    else:
        assert phase == "create", context
        assert not answered, context
        log = Log.create(home, SIGNER)
    entries = [entry.decode() for entry in log.entries(begun)]
    assert entries[: len(answered)] == [entry for entry, _ in answered], context
    unanswered = len(entries) - len(answered)
    ends = {sum(GROUPS[:i]): group for i, group in enumerate(GROUPS)}
    group = ends.get(len(answered), 0)
    assert unanswered in {0, group, *({1, group + 1} if may_say_full else ())}, context
    (goes_on,) = log.append([record(log.size)])
    assert goes_on.index == begun + len(entries), context
    log.close()
    demand_auditor_agrees(home, answered, context)
    shutil.rmtree(home)


def demand_auditor_agrees(home, answered, context):
    (home.parent / "log.vkey").write_text(SIGNER.vkey.text + "\n")
    proofs = []
    for number, (entry, receipt) in enumerate(answered[:: max(1, len(answered) // 4)]):
        verify_receipt(receipt.encode(), entry.encode(), SIGNER.vkey)
        proof = home.parent / f"{number}.tlog-proof"
        proof.write_text(receipt)
        proof.with_suffix(".entry").write_text(entry)
        proofs += ["--receipt", str(proof)]
    verify = ["verify", str(home), "--vkey", str(home.parent / "log.vkey"), "--json"]
    with redirect_stdout(StringIO()) as said:
        assert audit.__main__.main([*verify, *proofs]) == 0, context
    assert f'"receipts": {len(proofs) // 2}' in said.getvalue(), context


def test_an_answer_that_the_log_does_not_keep_would_be_noticed(faults):
    home, status = faults.live("append")
    assert status == 0
    answers = Path(f"{home}.answers")
    first = answers.read_text().splitlines()[0]
    answers.write_text(answers.read_text() + first.replace("weights/0", "weights/x") + "\n")
    with pytest.raises(AssertionError, match="forged"):
        demand_recovered(home, "append", "forged", may_say_full=False)
