"""One worker as the custodian sees it: a child that is given single objects and says numbers.

Keys go to the worker on pipes of their own, never in messages. What a worker says is bounded and patterned
here before anything else looks at it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from appliance.custodian.child import FIRST_EXTRA_FD, Child
from appliance.errors import (
    ApplianceError,
    IntegrityError,
    JailError,
    JobFailed,
    ProtocolError,
    by_code,
)
from appliance.messages import close_fds
from appliance.sandbox import RESTRICTIONS, required
from appliance.strictjson import JSON
from appliance.worklink import TO_CUSTODIAN, Begin, Failed, GiveInput, GiveOutput, Jailed, Proceed

START_TIMEOUT_S = 60.0
SEND_TIMEOUT_S = 5.0  # for a worker to take a message: the custodian does nothing else meanwhile
NONCE_BYTES = 16
MAX_CHUNK = 2**40  # beyond any file: what a captured worker may write into a log entry stays a small number
_MAX_ABI = 99
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_M = TypeVar("_M")
_alive: set[Worker] = set()


def checked_name(name: str) -> str:
    """Return an object name; raises ProtocolError unless it is 1 to 64 of a-z 0-9 . _ - (first: a-z 0-9)."""
    if not _NAME.fullmatch(name):
        raise ProtocolError(f"expected a name of a-z, 0-9, '.', '_', '-', found {name[:70]!r}")
    return name


def kill_all() -> None:
    """End every worker now: keys are wiped, or what is read could not be recorded any more."""
    for worker in tuple(_alive):
        worker.kill()


def beat_all() -> None:
    """Give every worker a sign of life; called from the watch's thread after each look."""
    for worker in tuple(_alive):
        worker.beat()


def kill_job(job: str) -> None:
    """End every worker of one job now: its lease is over."""
    for worker in tuple(_alive):
        if worker.job == job:
            worker.kill()


class Worker:
    """A jailed process with one task."""

    def __init__(self, child: Child, job: str = "", heart: int = -1) -> None:
        self.child = child
        self.job = job
        self._heart = heart
        self._beating = threading.Lock()
        self.jail: Jailed | None = None
        self.heard_at = time.monotonic()
        """When it last said something."""

    @classmethod
    async def start(
        cls,
        task: str,
        job: str,
        profile: str,
        numbers: Mapping[str, JSON] | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        extra: Sequence[int] = (),
    ) -> Worker:
        """Start a worker and wait until its jail is proved; raises JailError or JobFailed.

        `extra` descriptors become its own from 4 upward, and stay the caller's to close.
        """
        worker = cls._spawn(job, environment, extra)
        _alive.add(worker)
        try:
            worker.send(Begin(task, job, profile, dict(numbers or {})))
            async with asyncio.timeout(START_TIMEOUT_S):
                worker.jail = await worker.expect(Jailed)
            told = {*worker.jail.took, *worker.jail.missing}
            if not told <= RESTRICTIONS or not 0 <= worker.jail.landlock_abi <= _MAX_ABI:
                # They are logged in clear.
                raise ProtocolError("a worker reported restrictions that no jail has")
            lacking = set(required(profile)) - set(worker.jail.took)
            if lacking:
                message = f"the worker's jail lacks {', '.join(sorted(lacking))}: see `appliance doctor`"
                raise JailError(message)
        except TimeoutError as slow:
            await worker.end()
            raise JobFailed(f"a worker did not report its jail within {START_TIMEOUT_S:.0f} s") from slow
        except BaseException:
            await worker.end()
            raise
        return worker

    @classmethod
    def _spawn(cls, job: str, environment: Mapping[str, str] | None, extra: Sequence[int]) -> Worker:
        theirs, ours = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        number = str(FIRST_EXTRA_FD + len(extra))
        try:
            child = Child("appliance.worker", number, extra=(*extra, theirs), environment=environment)
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return cls(child, job, ours)

    def beat(self) -> None:
        """Tell the worker that the watch looks; from any thread, and never waiting."""
        with self._beating, contextlib.suppress(BlockingIOError, BrokenPipeError):
            if self._heart >= 0:
                os.write(self._heart, b"\0")

    def send(self, message: object, descriptors: Sequence[int] = ()) -> None:
        """Send a message and close its descriptors; raises what a worker that is gone failed with.

        A worker that takes no messages is ended: waiting for it would hold up everything, sealing included.
        """
        try:
            self.child.channel.send(message, descriptors, SEND_TIMEOUT_S)
        except TimeoutError as stuck:
            self.kill()
            raise JobFailed(f"a worker took no message for {SEND_TIMEOUT_S:.0f} s; it was ended") from stuck
        except (EOFError, OSError) as gone:
            raise self._last_word() from gone
        finally:
            close_fds(descriptors)

    def give_input(self, role: str, kind: str, payload: int, key: bytearray) -> None:
        """Hand over one vault object, whose chunks follow a nonce; overwrites `key`."""
        length = os.fstat(payload).st_size - NONCE_BYTES
        self.send(GiveInput(role, kind, NONCE_BYTES, length), (payload, key_pipe(key)))

    def give_output(self, message: GiveOutput, descriptor: int, key: bytearray) -> None:
        """Hand over room for one new object; overwrites `key`."""
        self.send(message, (descriptor, key_pipe(key)))

    def proceed(self) -> None:
        """Tell the worker that this phase's inputs are complete."""
        self.send(Proceed())

    async def receive(self) -> object:
        """Return the worker's next message; raises the error it failed with, JobFailed when it died."""
        try:
            message, descriptors = await self.child.channel.receive_async(TO_CUSTODIAN)
        except (EOFError, OSError) as gone:
            raise JobFailed("the worker died; what it had checkpointed stands") from gone
        self.heard_at = time.monotonic()
        if descriptors:
            close_fds(descriptors)
            raise ProtocolError("a worker sent descriptors")
        if isinstance(message, Failed):
            raise _failure(message)
        return message

    def _last_word(self) -> ApplianceError:
        """Return the error that a worker named before it ended, JobFailed where it named none."""
        with contextlib.suppress(EOFError, OSError, ProtocolError):
            while (received := self.child.channel.try_receive(TO_CUSTODIAN)) is not None:
                message, descriptors = received
                close_fds(descriptors)
                if isinstance(message, Failed):
                    return _failure(message)
        return JobFailed("the worker ended before it took its next message")

    async def expect(self, kind: type[_M]) -> _M:
        """Return the next message, which must be of `kind`."""
        message = await self.receive()
        if not isinstance(message, kind):
            raise ProtocolError(f"expected {kind.__name__} from a worker, found {type(message).__name__}")
        return message

    def kill(self) -> None:
        """End the worker now."""
        self.child.kill()

    async def end(self) -> None:
        """End the worker now and wait until it is gone."""
        self.kill()
        await self.ended()

    async def ended(self) -> int:
        """Wait until the process is gone and return its exit status."""
        status = await asyncio.shield(self.child.exited)
        _alive.discard(self)
        self.child.channel.close()
        with self._beating:
            if self._heart >= 0:
                os.close(self._heart)
            self._heart = -1
        return status


def key_pipe(key: bytearray) -> int:
    """Return the read end of a pipe that holds `key` and nothing more; overwrites `key`."""
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, key)
    finally:
        os.close(write_end)
        key[:] = bytes(len(key))
    return read_end


_FAILURES = {
    "no-medium": "the medium stopped answering; insert the same one again and repeat",
    "content": "a config or corpus cannot be used as it stands (bad key or value, too little text)",
    "no-space": "the disk is full: nothing half-written stays, free space and resume",
    "integrity": "a sealed object did not open as it was sealed",
    "usage": "the task does not fit what it was given",
    "job-failed": "the run gave up (a loss that is not finite, or a state that cannot go on)",
    "internal": "a fault of our own; the worker's own words are sealed as a report named after the job",
}


def _failure(message: Failed) -> ApplianceError:
    error = by_code().get(message.code, JobFailed)
    what = _FAILURES.get(message.code, "the worker gave up")
    where = f"step {message.step}"
    if error is IntegrityError and 0 <= message.chunk < MAX_CHUNK:
        return IntegrityError(f"{what}, at {where}, in chunk {message.chunk}", chunk=message.chunk)
    return error(f"{what}, at {where}")
