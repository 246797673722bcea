"""A process that appends to a log until something stops it: what the fault tests trace, and kill.

Started as `python -m tests.attacks.log_appender`, it reads one JSON line `[folder, phase]` at a time and
lives it in a fork of itself, which costs milliseconds where a new interpreter costs half a second. It prints
the fork's pid when that waits to be traced, and its exit status at the end. The fork asks for its session
until the tracer, not the kernel, answers.

    create    traced from before the log exists
    reopen    traced from before a log is opened that a killed process left with entries and no tiles for them
    append    traced from when the log stands open

Whatever was answered goes, with one write, to `<folder>.answers`: JSON lines of entry and receipt.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import audit.log
from audit.disk import Disk
from audit.entry import Decision, Record
from audit.errors import AuditError, LogUnavailable
from audit.log import Log
from audit.note import NoteSigner

SIGNER = NoteSigner("log.example/faults", bytes(range(32)))
TRACED = 4242
"""What a traced process is told its session is."""
GROUPS = (1, 254, 3, 20, 1)
"""A bundle fills in the middle of a group; a partial tile is replaced; the write-ahead file is begun anew."""
ROTATE_BYTES = 16_384
_PR_SET_PTRACER = 0x59616D61  # where only parents may trace, let anybody of this user


def record(number: int) -> Record:
    decision = Decision(number % 3 != 0, ("default-deny",), "ab" * 32, ("no rule allows it",))
    return Record("decision", "Person:ada", "read", f"weights/{number}", {"number": number}, decision)


def wait_for_tracer(ready: int) -> None:
    os.write(ready, b"!")
    deadline = time.monotonic() + 20
    while os.getsid(0) != TRACED:
        if time.monotonic() > deadline:
            raise TimeoutError("no tracer came")
        time.sleep(0.001)


def live(home: Path, phase: str, ready: int) -> None:
    answers = os.open(f"{home}.answers", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    if phase == "create":
        wait_for_tracer(ready)
        log = Log.create(home, SIGNER)
    elif phase == "reopen":
        wait_for_tracer(ready)
        log = Log.open(home, SIGNER)
    else:
        log = Log.open(home, SIGNER)
        log._disk.run(partial(wait_for_tracer, ready))  # in the thread that does the writing
    try:
        for count in GROUPS:
            answered = log.append([record(log.size + i) for i in range(count)])
            lines = [json.dumps([done.entry.decode(), done.receipt.decode()]) for done in answered]
            os.write(answers, "".join(f"{line}\n" for line in lines).encode())
            log.publish()
    except AuditError:
        demand_stopped(log)
        raise
    log.close()


def demand_stopped(log: Log) -> None:
    """After a failure nothing more is accepted."""
    for attempt in (lambda: log.append([record(0)]), log.publish):
        try:
            attempt()
        except LogUnavailable:
            continue
        raise AssertionError("a log that failed went on")


def leave_unpublished(home: Path) -> None:
    """A log of 290 entries, of which the last 40 are in the write-ahead file alone."""
    log = Log.create(home, SIGNER, lambda: 1_750_000_000.0)
    for count in (200, 50):
        log.append([record(log.size + i) for i in range(count)])
        log.publish()
    log.append([record(log.size + i) for i in range(40)])
    log._failure = "killed"
    log._disk.close(log._held.close)


def one_life(home: Path, phase: str, ready: int) -> int:
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, -1, 0, 0, 0)
    audit.log.ROTATE_BYTES = ROTATE_BYTES
    audit.log.Disk = partial(Disk, 60.0)  # tracing slows what it looks at; patience is tested elsewhere
    try:
        live(home, phase, ready)
    except AuditError as failure:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr, flush=True)
        return failure.exit_code
    except BaseException:  # noqa: BLE001  a fork of the server must not go on as the server
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for line in sys.stdin:
        home, phase = json.loads(line)
        waiting, ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            os._exit(one_life(Path(home), phase, ready))
        os.close(ready)
        os.read(waiting, 1)
        os.close(waiting)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
