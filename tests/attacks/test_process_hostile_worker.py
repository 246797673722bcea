"""Code that took over a worker, inside the jail that every real worker puts on: each way out is refused.

The entry of the worker is the shipped one; only the task it then imports is the attacker's. Its parent stands
in for the custodian and holds a secret in memory that it protects as the custodian does. As root, both first
lose their capabilities, as the KNOWN hole in `appliance.sandbox` says: root reads what root may.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import jails
from tests.attacks import hostile_worker

pytestmark = pytest.mark.processes

LAUNCH = """
import ctypes, os, sys
for capability in range(64):  # gone at the exec below: an ordinary process, whatever its uid
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-I", *sys.argv[1:]])
"""

CUSTODIAN = """
import os, sys
from appliance.messages import Channel
from appliance.sandbox import protect_memory
from appliance.worklink import TO_CUSTODIAN, Begin, Finished, Jailed
protect_memory()
secret = bytearray(b"a key that no worker may read")
ours, theirs = Channel.pair()
heart, beats = os.pipe()
FDS = (theirs.fileno(), 3), (heart, 4)
pid = os.posix_spawn(sys.executable, [sys.executable, "-I", sys.argv[1], "4"], {"LANG": "C.UTF-8"},
                     file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for fd, n in FDS])
theirs.close()
ours.send(Begin("train", "job", "development", {"name": "x"}))
assert isinstance(ours.receive(TO_CUSTODIAN)[0], Jailed)
assert isinstance(ours.receive(TO_CUSTODIAN)[0], Finished)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""

WORKER = """
import os, sys
sys.path.insert(0, {folder!r})
import appliance.worker.__main__ as entry
import hostile_worker
entry._MODULES["train"] = "hostile_worker"
status = entry.main()
sys.stdout.flush()
os._exit(status)
"""


def test_every_way_out_of_a_worker_is_refused(tmp_path: Path):
    (tmp_path / "custodian.py").write_text(CUSTODIAN)
    folder = str(Path(hostile_worker.__file__).parent)
    (tmp_path / "worker.py").write_text(WORKER.format(folder=folder))
    command = [
        sys.executable,
        "-I",
        "-c",
        LAUNCH,
        str(tmp_path / "custodian.py"),
        str(tmp_path / "worker.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr  # the parent lives: nothing signalled it
    outcomes = json.loads(done.stdout)
    assert set(outcomes) == set(hostile_worker.attacks(0))
    let_through = {name for name, found in outcomes.items() if found not in {"EPERM", "EACCES"}}
    assert let_through <= (hostile_worker.READS if "files" in jails.missing() else set())


HARMLESS = (
    "tcp",
    "unix",
    "netlink",
    "socketpair",
    "pidfd",
    "fork",
    "be dumped again",
    "its descriptors",
    "its environment",
    "change a program",
    "append to a log",
    "its cores",
    "its class",
    "its turn",
)
CONTROL = """
import json, os, sys
sys.path.insert(0, {folder!r})
import hostile_worker
chosen = hostile_worker.attacks(os.getppid())
print(json.dumps(hostile_worker.attempt({{name: chosen[name] for name in {names!r}}})))
"""


def test_the_same_attempts_succeed_without_the_jail(tmp_path: Path):
    """The positive control: what was refused above is refused by the jail, not by a mistake of ours."""
    folder = str(Path(hostile_worker.__file__).parent)
    (tmp_path / "free.py").write_text(CONTROL.format(folder=folder, names=HARMLESS))
    command = [sys.executable, "-I", str(tmp_path / "free.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == dict.fromkeys(HARMLESS, "SUCCESS"), os.uname()
