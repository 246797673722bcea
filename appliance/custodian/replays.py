"""The replay audit: a stretch of a job computed again in a jail, and held against the log.

What the log committed to when a checkpoint was sealed is what the recomputed state must hash to. The worker
says digests only and does not know what is expected; who watches learns equal or different. Checkpoints that
have left the vault are compared as well: their digests stay in the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from appliance.catalog import Checkpoint, Job, Object
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run, new_job_id
from appliance.custodian.trains import compare_with_log
from appliance.custodian.workers import Worker
from appliance.errors import IntegrityError, ProtocolError, UnknownObject, UsageError
from appliance.worklink import Began, Damaged, Progress, Replayed, WantInput
from audit.entry import JSON, entry_salt, parse_entry
from audit.errors import Invalid
from audit.log import Committed
from audit.opening import verify_claims
from policy.model import Entity

REPLAYED = "replayed"
_DATA = ("corpus", "tokenizer")


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is computed again: from a checkpoint (None: from the first weights) to each of `compared`."""

    start: Checkpoint | None
    compared: tuple[Checkpoint, ...]
    data: tuple[Object, ...]

    @property
    def begin(self) -> int:
        """The step from which is computed."""
        return self.start.step if self.start else 0

    def inputs(self, config: str) -> list[str]:
        """Ids of the objects that are opened for it."""
        state = [self.start.weights, self.start.optimizer] if self.start else []
        return [config, *(row.id for row in self.data), *state]


def stretch_of(core: Core, row: Job, begin: int, steps: int) -> Stretch:
    """Find the checkpoint to start from and those to compare; raises UsageError or UnknownObject."""
    if begin < 0 or steps < 1:
        raise UsageError(f"expected a step from 0 and at least 1 step to replay, found {begin} and {steps}")
    before = [each for each in row.kept if each.step <= begin]
    if not before and begin > 0:
        oldest = f"the oldest kept is of step {row.kept[0].step}" if row.kept else "none is kept"
        raise UnknownObject(
            f"job {row.id}: no checkpoint at or before step {begin} is in the vault, {oldest}; "
            "--from 0 computes from the first weights"
        )
    start = before[-1] if before and begin > 0 else None
    after = [each for each in row.checkpoints if each.step > (start.step if start else 0)]
    compared = tuple(each for each in after if each.step <= begin + steps)
    if not compared:
        nearest = f"the next is of step {after[0].step}" if after else "none lies behind it"
        raise UsageError(
            f"job {row.id}: no checkpoint lies within {steps} steps after step {begin}: {nearest}"
        )
    parents = [core.catalog.get(parent) for parent in core.catalog.get(compared[0].weights).parents]
    return Stretch(start, compared, tuple(each for each in parents if _is_given(each, row)))


def _is_given(parent: Object, row: Job) -> bool:
    """Whether a checkpoint's parent came from outside the job: data, or the weights that it began with."""
    return parent.kind in _DATA or (parent.kind == "weights" and parent.job != row.id)


class Replays:
    """The replay verb of one custodian."""

    def __init__(self, core: Core, environment: Mapping[str, str]) -> None:
        self._core = core
        self._environment = environment

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"Replay": self.replay}

    async def replay(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Yield each comparison as it is made."""
        person = self._core.person(caller.uid)
        row = self._core.catalog.job(caller.text("job"))
        begin, steps = caller.number("from_step"), caller.number("steps")
        async with contextlib.aclosing(self._replay(person, row, begin, steps)) as told:
            async for item in told:
                yield item

    async def _replay(
        self, person: Entity, row: Job, begin: int, steps: int
    ) -> AsyncGenerator[dict[str, JSON], None]:
        core = self._core
        core.custody  # noqa: B018  raises SealedError before anything is asked
        compare_with_log(core, row)
        stretch = stretch_of(core, row, begin, steps)
        config = core.catalog.get(row.config)
        job, named = new_job_id("replay"), stretch.inputs(row.config)
        allowed = core.gate.request(person, "replay", config, job=job, named=named)
        run = Run(core, job, person.id, "replay", named)
        run.keep(allowed.committed)
        numbers: dict[str, JSON] = {"steps": [each.step for each in stretch.compared]}
        worker = await Worker.start("replay", job, core.facts.profile, numbers, self._environment)
        try:
            self._give(run, worker, stretch, config)
            comparison = _Comparison(core, row, stretch)
            async with contextlib.aclosing(_messages(worker, run, stretch.data)) as messages:
                async for message in messages:
                    if isinstance(message, Replayed):
                        yield comparison.compare(message)
                        if comparison.complete:
                            break
                    elif isinstance(message, Began):
                        comparison.began(message)
                    elif isinstance(message, Progress):
                        yield comparison.passed(message.step)
            run.keep(comparison.log(job))
        finally:
            await worker.end()
            core.live.revoke_job(job)

    def _give(self, run: Run, worker: Worker, stretch: Stretch, config: Object) -> None:
        run.give(worker, "config", config)
        if stretch.start is not None:
            run.give(worker, "weights", self._core.catalog.get(stretch.start.weights))
            run.give(worker, "optimizer", self._core.catalog.get(stretch.start.optimizer))
        worker.proceed()


async def _messages(worker: Worker, run: Run, data: Sequence[Object]) -> AsyncGenerator[object, None]:
    """Yield what a worker says, as long as anybody listens; hand it the data that the job was made with."""
    while True:
        message = await worker.receive()
        if isinstance(message, WantInput):
            _give_data(worker, run, data, message)
        elif isinstance(message, Damaged):
            raise IntegrityError("the checkpoint to start from does not open: replay from an earlier step")
        elif isinstance(message, Began | Progress | Replayed):
            yield message
        else:
            raise ProtocolError(f"a replaying worker said {type(message).__name__}")


def _give_data(worker: Worker, run: Run, data: Sequence[Object], want: WantInput) -> None:
    for row in data:
        if row.kind == want.object_kind and (row.kind == "tokenizer" or row.name == want.name):  # has one
            run.give(worker, row.kind, row)
            return
    raise ProtocolError("a replaying worker asked for data that the job was not made with")


def _told(**facts: JSON) -> dict[str, JSON]:
    """One item of the answer, what it does not say as null."""
    names = (
        "step",
        "weights_equal",
        "optimizer_equal",
        "weights_entry",
        "optimizer_entry",
        "backend",
        "made_on",
    )
    return {**dict.fromkeys(names), **facts}


class _Comparison:
    """What a replay found so far."""

    def __init__(self, core: Core, row: Job, stretch: Stretch) -> None:
        self._core = core
        self._row = row
        self._stretch = stretch
        self._equal: list[int] = []
        self._backend = self._made_on = ""
        self._differs: int | None = None
        self._passed = stretch.begin

    @property
    def complete(self) -> bool:
        """Whether everything was compared, or something differs."""
        return self._differs is not None or len(self._equal) == len(self._stretch.compared)

    def began(self, message: Began) -> None:
        """Note where the worker starts and on what."""
        if message.step != self._stretch.begin:
            raise ProtocolError("a replaying worker began at another step than it was given")
        self._backend, self._made_on = message.backend, message.made_on

    def passed(self, step: int) -> dict[str, JSON]:
        """Return how far the worker is as the interface tells it; a step is within the stretch, and rises."""
        if not self._passed < step <= self._stretch.compared[-1].step:
            raise ProtocolError(f"a replaying worker told step {step} after step {self._passed}")
        self._passed = step
        return _told(step=step)

    def compare(self, found: Replayed) -> dict[str, JSON]:
        """Hold one state against the log; returns it as the interface tells it."""
        expected = self._stretch.compared[len(self._equal)]
        if found.step != expected.step:
            raise ProtocolError("a replaying worker compared another step than it was told")
        weights = self._is_logged(expected.weights, found.weights_sha256)
        optimizer = self._is_logged(expected.optimizer, found.optimizer_sha256)
        if weights and optimizer:
            self._equal.append(found.step)
        else:
            self._differs = found.step
        return _told(
            step=found.step,
            weights_equal=weights,
            optimizer_equal=optimizer,
            weights_entry=self._core.catalog.get(expected.weights).log_index,
            optimizer_entry=self._core.catalog.get(expected.optimizer).log_index,
            backend=self._backend,
            made_on=self._made_on,
        )

    def _is_logged(self, object_id: str, digest: str) -> bool:
        """Whether a plaintext of this digest is what the object's creation entry committed to."""
        index = self._core.catalog.get(object_id).log_index
        secret = self._core.log.commit_secret
        assert secret is not None  # noqa: S101  nothing is replayed while sealed
        try:
            entry = parse_entry(self._core.log.entry(index))
            verify_claims(entry, entry_salt(secret, index), {"plaintext_sha256": digest})
        except Invalid:
            return False
        return True

    def log(self, job: str) -> Committed:
        """Log what was found."""
        context: dict[str, JSON] = {
            "job": job,
            "replayed": self._row.id,
            "from": self._stretch.begin,
            "equal": list(self._equal),
            "first_difference": self._differs,
            "made_on": self._made_on,
            "backend": self._backend,
        }
        resource = f"JobRecord:{self._row.id}"
        return self._core.gate.outcome(REPLAYED, "Custodian:custodian", "replay", resource, context)
