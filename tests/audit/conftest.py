"""A signer, a clock that ticks, and logs that are closed when their test ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from audit.entry import Decision, Record
from audit.log import Log
from audit.note import NoteSigner


@pytest.fixture(scope="session")
def signer():
    return NoteSigner("log.example/test", bytes(range(32)))


@pytest.fixture(scope="session")
def stranger():
    return NoteSigner("log.example/test", bytes(range(1, 33)))


@pytest.fixture(scope="session")
def record():
    def make(number=0, kind="decision", **changes):
        fields = {
            "kind": kind,
            "principal": "person:ada",
            "action": "read",
            "resource": f"weights/{number}",
            "context": {"profile": "development", "number": number},
            "decision": Decision(number % 3 != 0, ("default-deny",), "ab" * 32, ("no rule allows it",)),
        }
        return Record(**{**fields, **changes})

    return make


@pytest.fixture
def clock():
    now = [1_750_000_000.0]

    def tick():
        now[0] += 0.25
        return now[0]

    return tick


@pytest.fixture
def logs(tmp_path, signer, clock):
    """Make or open logs below tmp_path; `die` is a killed process: all closed, nothing published."""
    held = []

    def die(log):
        log._failure = log._failure or "killed"
        log._disk.close(log._held.close)

    class Logs:
        home = tmp_path / "log"

        def create(self, **options):
            held.append(Log.create(self.home, signer, clock, **options))
            return held[-1]

        def open(self, **options):
            held.append(Log.open(self.home, signer, clock, **options))
            return held[-1]

        def die(self, *dying):
            for log in dying or held:
                die(log)

    yield Logs()
    for log in held:
        die(log)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, signer, record):
    """A log of 300 entries, published at several sizes, and one receipt from each."""
    home = tmp_path_factory.mktemp("finished") / "log"
    log = Log.create(home, signer, lambda: 1_750_000_000.0)
    receipts = []
    for count in (3, 7, 245, 2, 13, 30):
        committed = log.append([record(log.size + i) for i in range(count)])
        receipts.append((committed[-1].receipt, committed[-1].entry))
        log.publish()
    log.close()
    return home, receipts


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished log to tamper with."""
    home = tmp_path / "copy"
    shutil.copytree(finished[0], home)
    return home


@pytest.fixture(scope="session")
def files():
    def published(home: Path):
        return sorted([home / "checkpoint", *(path for path in (home / "tile").rglob("*") if path.is_file())])

    return published
