"""The thread that does a log's writing, so that whoever waits for a disk can stop waiting.

Guarantees its caller an outcome of every job: what it returned or raised, or, when one operation of it takes
longer than the limit, TimeoutError; and that an abandoned job begins no further operation. A job says `step`
before each operation (a write, a sync, a rename). The limit is for each of them, so a long job on a slow disk
is not taken for one that hangs. What the abandoned operation itself may still do, once the kernel comes back
to it, is finish: a crash after it instead of before it, which recovery tells apart as it always does.

What the job uses (descriptors, the log's lock) stays open until it came back, so nobody else begins to write
to a log that an abandoned operation may yet change.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")

_Outcome = tuple[object, BaseException | None]

# Tuning: whoever waits hears of it within a second. A sound disk takes some 10 ms, one under load 200.
LIMIT_S = 0.8


class _Abandoned(Exception):
    """The job's caller has gone; nothing may be begun any more."""


class Disk:
    """One thread, which ends with `close` or after a job that was abandoned; jobs are run one at a time."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._told: SimpleQueue[_Outcome | None] = SimpleQueue()  # None: the job waits for the disk now
        self._lock = threading.Lock()  # makes "abandon" and "begin the next operation" exclude each other
        self._began = 0.0
        self._abandoned = self._ended = False
        self._release: Callable[[], object] | None = None
        threading.Thread(target=self._work, name="log-disk", daemon=True).start()

    def run(self, job: Callable[[], T], meanwhile: Callable[[], object] | None = None) -> T:
        """Run a job in the thread; returns or raises what it does, or TimeoutError if it was abandoned.

        `meanwhile` is called here each time the job says that it `waits` for the disk.
        """
        self._began = time.monotonic()
        self._jobs.put(job)
        try:
            while (outcome := self._next_word()) is None:
                if meanwhile is not None:
                    meanwhile()
        except BaseException:  # an interrupt, too, leaves the job behind
            self._abandoned = True
            raise
        result, failure = outcome
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]  # what `job` returned

    def step(self) -> None:
        """Say that an operation begins; raises _Abandoned where nobody waits for it any more."""
        with self._lock:
            if self._abandoned:
                raise _Abandoned
            self._began = time.monotonic()

    def waits(self) -> None:
        """Say, in place of `step`, that an operation begins which only the disk takes long for.

        Only then the caller does work of its own: any earlier, it would keep the interpreter from the job.
        """
        self.step()
        self._told.put(None)

    def close(self, release: Callable[[], object]) -> None:
        """End the thread; `release` closes what jobs use: now, or once an abandoned job has come back."""
        with self._lock:
            if self._abandoned and not self._ended:
                self._release = release
                return
        self._jobs.put(None)
        release()

    def _next_word(self) -> _Outcome | None:
        while True:
            left_s = self._began + self._limit_s - time.monotonic()
            with suppress(Empty):
                return self._told.get(timeout=max(left_s, 0))
            with self._lock:
                if time.monotonic() - self._began >= self._limit_s:
                    self._abandoned = True
                    raise TimeoutError(
                        errno.ETIMEDOUT, f"the disk did not answer within {self._limit_s:g} seconds"
                    )

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = _run(job)
            with self._lock:
                if self._abandoned:
                    break
                self._told.put(outcome)
            del job, outcome  # nothing of a log is kept alive by a thread that waits
        with self._lock:
            self._ended = True
            release = self._release
        if release is not None:
            release()


def _run(job: Callable[[], object]) -> _Outcome:
    try:
        return job(), None
    except BaseException as failure:  # noqa: BLE001  raised again in the thread that waits for it
        return None, failure
