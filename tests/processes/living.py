"""One real appliance under test: a home on disk, the real custodian with its front and workers, a real log.

Nothing is replaced by a stand-in. Homes are copies of one template that was initialised, fed and trained a
little by the same programs; a home holds no absolute path, so a copy is an appliance of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.age import decrypt
from appliance.client import SOCKET_NAME, connect
from appliance.custody.keyring import Keyring, parse_keyring
from appliance.custody.slot import VAULT_SLOT, open_slot
from appliance.errors import ApplianceError

ANSWER_S = 30.0  # far beyond what anything takes; a shared machine must not make a test fail
PYTHON = [sys.executable, "-I", "-m"]

CONFIG = """# {canary}
[model]
layers = 1
width = 16
heads = 2
context = 32
[train]
steps = {steps}
batch = 4
threads = 1
learning_rate = 2e-3
min_learning_rate = 2e-4
warmup_steps = 5
eval_every = {steps}
checkpoint_every = {every}
validation_fraction = 0.1
seed = 7
[data]
corpus = "corpus"
"""


def eventually(holds: Any, what: str, within_s: float = ANSWER_S) -> Any:
    """Wait until `holds()` is true and return it; what was waited for is the failure's message."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {within_s} s for {what}")


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; never raises for its exit code, which tests compare themselves."""
    text = [str(part) for part in command]
    return subprocess.run(text, capture_output=True, text=True, check=False, timeout=60, **options)


class Living:
    """One appliance and its processes."""

    def __init__(self, home: Path, public: Path) -> None:
        self.home = home
        self.public = public
        self.process: subprocess.Popen[bytes] | None = None

    # ---- its processes ----

    def start(self, *prefix: str) -> Living:
        """Start the custodian (behind `prefix`, a program such as strace) and wait until it answers."""
        self.spawn(*prefix)
        eventually(self._answers, f"{self.home} to answer")
        return self

    def spawn(self, *prefix: str) -> subprocess.Popen[bytes]:
        """Start the custodian without waiting for anything."""
        with self.diagnostics.open("ab") as said:
            self.process = subprocess.Popen(
                [*prefix, *PYTHON, "appliance.custodian", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        return self.process

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the custodian ended: {self.diagnostics.read_text()[-3000:]}"
        try:
            self.call("Status")
        except ApplianceError:
            return False
        return True

    @property
    def diagnostics(self) -> Path:
        return self.home / "run" / "daemon.err"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def children(self, module: str) -> list[int]:
        """Pids of the custodian's living children that run `module`."""
        return [
            pid
            for pid in descendants(self.pid)
            if module.encode() in read_or_nothing(Path(f"/proc/{pid}/cmdline")).split(b"\0")
        ]

    def kill(self) -> None:
        """kill -9 the custodian, and wait until it and all that it started are gone."""
        if self.process is None:
            return
        family = [self.pid, *descendants(self.pid)]
        self.process.kill()
        self.process.wait()
        eventually(lambda: not any(is_alive(pid) for pid in family), f"{family} to be gone")
        self.process = None

    def shutdown(self) -> None:
        """End the custodian as an operator would, and wait for its end."""
        assert self.process is not None
        self.call("Shutdown")
        self.process.wait(timeout=ANSWER_S)
        self.process = None

    # ---- what clients ask ----

    def call(self, method: str, parameters: dict[str, Any] | None = None, fds: tuple[int, ...] = ()) -> Any:
        with connect(self.home, timeout_s=ANSWER_S) as client:
            return client.call(method, parameters, fds)

    def stream(self, method: str, parameters: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        with (
            connect(self.home, timeout_s=ANSWER_S) as client,
            contextlib.closing(client.stream(method, parameters)) as items,
        ):
            yield from items

    def cli(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one `appliance` command as a person would."""
        return run(*PYTHON, "appliance", "--home", self.home, *arguments, **options)

    def unseal(self) -> Living:
        self.call("Unseal")
        return self

    def train(self, config: str, **parameters: str) -> str:
        return str(self.call("Train", {"config": config, **parameters})["job"])

    def resume(self, job: str) -> None:
        assert self.call("Train", {"resume": job})["job"] == job

    def events(self, job: str) -> Iterator[dict[str, Any]]:
        for item in self.stream("Watch", {"job": job, "after": 0}):
            yield item["event"]

    def wait_for(self, job: str, kind: str, count: int = 1) -> dict[str, Any]:
        """Follow a job until its `count`-th event of this kind."""
        seen = []
        with contextlib.closing(self.events(job)) as events:
            for event in events:
                seen.append(event)
                count -= event["kind"] == kind
                if not count:
                    return event
        raise AssertionError(f"job {job} ended without {kind}: {seen[-3:]}")

    def last_word(self, job: str) -> dict[str, Any]:
        """Follow a job to its end and return its last event."""
        *_, last = self.events(job)
        return last

    def job(self, job: str) -> dict[str, Any]:
        return next(item["job"] for item in self.stream("ListJobs") if item["job"]["id"] == job)

    def objects(self, kind: str = "") -> list[dict[str, Any]]:
        return [item["object"] for item in self.stream("ListObjects", {"kind": kind} if kind else {})]

    # ---- what an auditor and a keeper of the keys see ----

    def audit(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Verify the log with the auditor's own program."""
        vkey = self.public / "log.vkey"
        return run(*PYTHON, "audit", "verify", self.home / "log", "--vkey", vkey, *arguments)

    def demand_sound_log(self) -> None:
        verdict = self.audit()
        assert verdict.returncode == 0, verdict.stderr

    def entries(self) -> str:
        """Every published entry, one JSON line each."""
        return run(*PYTHON, "audit", "show", self.home / "log", "--json").stdout

    def keyring(self) -> Keyring:
        return parse_keyring(open_slot(self.home / "keys", VAULT_SLOT, None))

    def plaintext(self, object_id: str) -> bytes:
        """Open one object with the vault's identity alone, as a recovery would: no daemon is asked."""
        folder = self.home / "vault" / object_id
        sealed = io.BytesIO((folder / "header").read_bytes() + (folder / "payload").read_bytes())
        opened = io.BytesIO()
        keyring = self.keyring()
        upcoming = keyring.next_vault_identity
        decrypt(sealed, opened, [keyring.vault_identity, *([upcoming] if upcoming is not None else [])])
        return opened.getvalue()

    def demand_nothing_half_written(self) -> None:
        """No part of an object or bundle is left lying about, and every object is whole."""
        assert list((self.home / "vault" / ".incoming").glob("*")) == []
        assert list((self.home / "quarantine").iterdir()) == []
        for folder in (self.home / "vault").glob("[0-9a-f]*"):
            self.plaintext(folder.name)


def copy_home(source: Path, target: Path) -> Path:
    """Copy a home that nobody runs; sockets and locks belong to processes and stay behind."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(SOCKET_NAME, "daemon.err"))
    return target


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the name: state first, then the parent; [] when it is gone."""
    return read_or_nothing(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()


def is_alive(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] not in (b"Z", b"X")


def descendants(pid: int) -> list[int]:
    """Every living process below this one."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  names are enough
        if name.isdecimal() and is_alive(int(name)) and (fields := _stat(int(name))):
            parents.setdefault(int(fields[1]), []).append(int(name))
    found, waiting = [], [pid]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def interrupt(process: subprocess.Popen[Any]) -> None:
    """What Ctrl-C sends."""
    process.send_signal(signal.SIGINT)
