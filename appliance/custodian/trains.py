"""Training: from a decision, through granted inputs and verified checkpoints, to a last word in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import structlog

from appliance.catalog import Job, Object
from appliance.catalog.database import REBUILD
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run, new_job_id
from appliance.custodian.materials import TOKENIZER, give_named, publish_tokenizer
from appliance.custodian.outputs import Outputs
from appliance.custodian.ranks import Others, check_ranks, start_ranks
from appliance.custodian.retention import Figures, Rule, fall_out, retire
from appliance.custodian.states import States
from appliance.custodian.telling import Telling
from appliance.custodian.workers import Worker, checked_name
from appliance.errors import (
    ApplianceError,
    Busy,
    IntegrityError,
    ProtocolError,
    UnknownObject,
    UsageError,
)
from appliance.gate import NamedObject
from appliance.worklink import (
    Account,
    Began,
    Checkpoint,
    Damaged,
    Finished,
    Made,
    Progress,
    Sealed,
    Stop,
    WantInput,
    WantOutput,
)
from audit.entry import JSON, parse_entry
from audit.errors import AuditError
from policy.errors import PolicyError
from policy.model import Entity

MADE_BY_TRAINING = ("weights", "optimizer")
REPORT = "report"
_EXPECTED = (ApplianceError, AuditError, PolicyError)


@dataclass(slots=True)
class Training:
    """A training job at work."""

    run: Run
    row: Job
    states: States
    figures: Figures
    telling: Telling
    ranks: int = 1
    began: asyncio.Event = field(default_factory=asyncio.Event)
    others: Others | None = None
    account: Account | None = None
    task: asyncio.Task[None] | None = None
    worker: Worker | None = None
    stopping: bool = False
    settling: bool = False
    chunk: int = -1
    """The one whose tag did not fit, where that ended the job."""
    ended_because: str = ""
    """Why the custodian ended it; what its workers failed with meanwhile is only how they died."""


class Trains:
    """Starts, resumes and stops training jobs; one at a time, since one machine trains one model well."""

    def __init__(self, core: Core, environment: Mapping[str, str]) -> None:
        self._core = core
        self._environment = environment
        self._jobs: dict[str, Training] = {}
        self._say = structlog.get_logger()

    def running(self) -> list[str]:
        """Return the ids of jobs at work."""
        return [job for job, training in self._jobs.items() if training.task and not training.task.done()]

    def find(self, job: str) -> Training | None:
        """Return a job of this custodian's lifetime."""
        return self._jobs.get(job)

    def start(self, person: Entity, config: Object | NamedObject, name: str, ranks: int = 1) -> str:
        """Decide on, record and start a new job; return its id."""
        self._only_one()
        check_ranks(ranks)
        job = new_job_id("train")
        allowed = self._core.gate.request(person, "train", config, job=job)
        found = allowed.object
        assert found is not None  # noqa: S101  a permitted object was resolved
        run = Run(self._core, job, person.id, "train", (found.id,))
        run.keep(allowed.committed)
        row = self._core.catalog.add_job(
            id=job,
            name=checked_name(name or found.name),
            owner=person.id,
            config=found.id,
            log_index=allowed.committed.index,
        )
        return self._launch(self._training(run, row, ranks))

    def resume(self, person: Entity, job: str, ranks: int = 1) -> str:
        """Decide on and continue a job from its last checkpoint; raises UnknownObject or Busy."""
        self._only_one()
        check_ranks(ranks)
        row = self._core.catalog.job(job)
        compare_with_log(self._core, row)
        if row.state == "done":
            raise UsageError(f"job {job} is complete after {row.step} steps: nothing is left to resume")
        config = self._core.catalog.get(row.config)
        named = [config.id, *(name for each in row.kept for name in (each.weights, each.optimizer))]
        allowed = self._core.gate.request(person, "train", config, job=job, named=named)
        run = Run(self._core, job, person.id, "train", named)
        run.keep(allowed.committed)
        return self._launch(self._training(run, replace(row, owner=person.id), ranks))

    def _training(self, run: Run, row: Job, ranks: int) -> Training:
        figures, telling = Figures(self._core, row.id), Telling(run, row.steps)
        return Training(run, row, States(self._core, run, row), figures, telling, ranks)

    def stop(self, job: str) -> None:
        """Ask a job to end at its next safe point."""
        training = self._jobs.get(job)
        if training is None or training.task is None or training.task.done():
            raise UnknownObject(f"no job {job} is running: see `appliance jobs`")
        training.stopping = True
        if training.worker is not None:
            training.worker.send(Stop())

    async def end(self, job: str, reason: str) -> None:
        """Kill a job's worker now and wait for the job's last word; harmless when it has ended."""
        training = self._jobs.get(job)
        if training is not None and training.task is not None and not training.task.done():
            if training.worker is not None:
                training.worker.kill()
            if training.others is not None:
                await training.others.end()
            if not training.settling:  # it has ended by itself meanwhile: what it leaves is being cleared up
                training.ended_because = reason
                training.task.cancel(reason)
            await asyncio.wait([training.task])

    async def end_all(self, reason: str) -> None:
        """End every job that is at work."""
        for job in self.running():
            await self.end(job, reason)

    def _only_one(self) -> None:
        self._core.custody  # noqa: B018  sealed is said before busy
        running = self.running()
        if running:
            raise Busy(
                f"job {running[0]} is running: wait for it, or end it with `appliance stop {running[0]}`"
            )

    def _launch(self, training: Training) -> str:
        job = training.row.id
        self._jobs[job] = training
        training.task = asyncio.get_running_loop().create_task(self._carry_out(training))
        return job

    async def _carry_out(self, training: Training) -> None:
        """Run one job to its end, whatever the end is; nothing staged or alive is left behind."""
        core, row = self._core, training.row
        kinds = (*MADE_BY_TRAINING, TOKENIZER, REPORT)
        labels = training.run.labels
        outputs = Outputs(core, row.id, kinds, self._environment, name=row.name, compartments=labels)
        state, reason = "failed", "internal"
        try:
            core.catalog.set_job(row.id, state="running")
            finished = await self._work(training, outputs)
            state, reason = ("stopped" if finished.stopped else "done"), ""
        except asyncio.CancelledError as cancelled:
            reason = str(cancelled.args[0]) if cancelled.args else "ended"
        except _EXPECTED as failed:
            reason = f"{getattr(failed, 'code', 'internal')}: {failed}"
            training.chunk = getattr(failed, "chunk", -1)
        except Exception:  # noqa: BLE001  a fault in one job must not end the custodian; it is said and logged
            self._say.exception("job-failed", job=row.id)
        finally:
            training.settling = True
            if because := training.ended_because or core.ending:
                state, reason = "failed", because
            await self._settle(training, outputs, state, reason)

    async def _settle(self, training: Training, outputs: Outputs, state: str, reason: str) -> None:
        core, run, row = self._core, training.run, training.row
        training.telling.end()
        if training.others is not None:
            await training.others.end()
        if training.worker is not None:
            await training.worker.end()
            self._seal_report(row.id, outputs, bytes(training.worker.child.report))
        outputs.discard()
        core.live.revoke_job(row.id)
        for record in (self._log_end, self._catalogue_end):
            try:
                record(training, state, reason)
            except (*_EXPECTED, OSError) as full:  # whoever watches is told of the end all the same
                self._say.error("end-not-recorded", job=row.id, reason=str(full))
        last = core.catalog.job(row.id)
        run.tell(state, last.step, last.steps, **({"reason": reason} if reason else {}))

    def _log_end(self, training: Training, state: str, reason: str) -> None:
        code, job = reason.partition(":")[0], training.row.id
        step = self._core.catalog.job(job).step
        context: dict[str, JSON] = {"job": job, "state": state, "step": step, "reason": code}
        if training.chunk >= 0:
            context["chunk"] = training.chunk
        training.run.keep(
            self._core.gate.outcome("job-ended", "Custodian:custodian", "train", f"JobRecord:{job}", context)
        )

    def _catalogue_end(self, training: Training, state: str, reason: str) -> None:
        self._core.catalog.set_job(training.row.id, state=state, reason=reason)

    def _seal_report(self, job: str, outputs: Outputs, text: bytes) -> None:
        """Keep a worker's own words, sealed; losing them does not change how the job ended."""
        try:
            if text and not self._core.sealed:
                outputs.seal_report(text)
        except (*_EXPECTED, OSError) as lost:  # out of descriptors, say: the job must be settled all the same
            self._say.warning("report-lost", job=job, reason=getattr(lost, "code", "internal"))

    async def _work(self, training: Training, outputs: Outputs) -> Finished:
        core, run, row = self._core, training.run, training.row
        worker, *others = await start_ranks(core, run, row.name, training.ranks, self._environment)
        training.worker = worker
        training.others = Others(core, run, training.states, others)
        run.tell("started", row.step, row.steps)
        run.give(worker, "config", core.catalog.get(row.config))
        training.states.give_next(worker)
        worker.proceed()
        if training.stopping:
            worker.send(Stop())
        try:
            async with asyncio.TaskGroup() as publishing:
                publishing.create_task(training.others.follow(training.began, worker))
                return await self._listen(training, worker, outputs, publishing)
        except BaseExceptionGroup as failed:
            raise _first(failed) from None

    async def _listen(
        self, training: Training, worker: Worker, outputs: Outputs, publishing: asyncio.TaskGroup
    ) -> Finished:
        """Answer the worker until it is finished; a checkpoint that cannot be published ends the job."""
        in_order = asyncio.Lock()
        while True:
            message = await worker.receive()
            if isinstance(message, WantInput):
                give_named(self._core, training.run, training.row, worker, message)
            elif isinstance(message, WantOutput):
                async with in_order:  # a worker that outpaces its second reader waits: nothing piles up
                    outputs.open(worker, message)
            elif isinstance(message, Account):
                training.account = message
                if message.report >= 0:
                    publishing.create_task(self._report(training, outputs, message, in_order))
            elif isinstance(message, Checkpoint | Made):
                publishing.create_task(self._publish(training, outputs, message, in_order))
            elif isinstance(message, Finished):
                return message
            else:
                self._note(training, worker, outputs, message)

    def _note(self, training: Training, worker: Worker, outputs: Outputs, message: object) -> None:
        """Take note of what needs no waiting."""
        if isinstance(message, Sealed):
            outputs.sealed(message)
        elif isinstance(message, Progress):
            self._progress(training, message)
        elif isinstance(message, Damaged):
            training.states.damaged(worker)
        elif isinstance(message, Began):
            training.states.began(message)
            training.telling.began(message.step)
            training.began.set()
        else:
            raise ProtocolError(f"a training worker said {type(message).__name__}")

    def _progress(self, training: Training, message: Progress) -> None:
        known = training.telling.take(message)
        if known.bits_per_byte >= 0:
            training.figures.note(known.step, known.bits_per_byte)
        self._core.catalog.set_job(training.row.id, steps=known.steps)

    async def _publish(
        self, training: Training, outputs: Outputs, message: Checkpoint | Made, in_order: asyncio.Lock
    ) -> None:
        """Publish a checkpoint, or the tokenizer that was made before the first step, in their order."""
        if isinstance(message, Checkpoint):
            await self._checkpoint(training, outputs, message, in_order)
        else:
            async with in_order:
                await publish_tokenizer(self._core, training.run, outputs, message)

    async def _checkpoint(
        self, training: Training, outputs: Outputs, message: Checkpoint, in_order: asyncio.Lock
    ) -> None:
        """Verify and publish a checkpoint's two objects while training goes on."""
        core, run, job = self._core, training.run, training.row.id
        async with in_order:
            secret = {"steps": message.step, "flops": message.flops, "seed": message.seed}
            tokens = (message.weights, message.optimizer)
            if tuple(outputs.kind_of(token) for token in tokens) != MADE_BY_TRAINING:
                raise ProtocolError(
                    "a training worker named other outputs than weights and an optimizer's state"
                )
            training.telling.checkpoint(message.step)
            weights, optimizer = await outputs.publish(tokens, run.used, secret)
            with core.catalog.transaction():
                core.catalog.add_checkpoint(job, message.step, weights.id, optimizer.id)
                core.catalog.add_result(job, weights.id)
            context: dict[str, JSON] = {
                "job": job,
                "step": message.step,
                "weights": weights.id,
                "optimizer": optimizer.id,
            }
            resource = f"JobRecord:{job}"
            run.keep(core.gate.outcome("checkpoint", "Custodian:custodian", "train", resource, context))
            self._retire(training, message)
        for made in (weights, optimizer):
            run.keep(core.gate.receipt_of(made.log_index))
        run.tell("checkpoint", message.step, core.catalog.job(job).steps, object=weights.id)

    async def _report(
        self, training: Training, outputs: Outputs, message: Account, in_order: asyncio.Lock
    ) -> None:
        """Verify and publish the run's account; its sums are committed to in the entry."""
        async with in_order:
            if outputs.kind_of(message.report) != REPORT:
                raise ProtocolError("a training worker named another output than its report")
            (report,) = await outputs.publish([message.report], training.run.used, committed_sums(message))
        training.run.keep(self._core.gate.receipt_of(report.log_index))

    def _retire(self, training: Training, message: Checkpoint) -> None:
        """Let go of what the config's rule no longer keeps; what lies beyond this step is left alone."""
        kept = [each for each in self._core.catalog.job(training.row.id).kept if each.step <= message.step]
        rule = Rule(message.keep_last, message.keep_best, message.keep_every)
        fallen = fall_out([each.step for each in kept], training.figures.by_step, rule)
        retire(self._core, training.row.id, training.run.owner, [c for c in kept if c.step in fallen])
        training.figures.keep([each.step for each in kept if each.step not in fallen])


def committed_sums(account: Account) -> dict[str, int]:
    """Return an account's sums as whole numbers that an entry can hold: operations in millions."""
    return {
        "tokens": account.tokens,
        "milliseconds": round(1000 * account.seconds),
        "bytes_read": account.bytes_read,
        "peak_mflop_per_s": account.peak_flops_per_s // 10**6,
        "mflop_forward": account.flops_forward // 10**6,
        "mflop_backward_inputs": account.flops_backward_inputs // 10**6,
        "mflop_backward_parameters": account.flops_backward_parameters // 10**6,
        "mflop_recompute": account.flops_recompute // 10**6,
    }


def compare_with_log(core: Core, row: Job) -> None:
    """Compare a job's row with the entry that began it, its checkpoint with who made it; IntegrityError.

    The gate compares the objects' own rows, and with them which job made them, when they are used.
    """
    began = parse_entry(core.log.entry(row.log_index))
    same = began.decision is not None and began.decision.allow and began.context.get("job") == row.id
    said = (f"Person:{row.owner}", "train", f"Object:{row.config}")
    same = same and (began.principal, began.action, began.resource) == said
    for kept in row.kept:
        saved = [core.catalog.get(each) for each in (kept.weights, kept.optimizer)]
        same = same and [(each.kind, each.job) for each in saved] == [
            (kind, row.id) for kind in MADE_BY_TRAINING
        ]
    if not same:
        raise IntegrityError(
            f"job {row.id} is not the one that log entry {row.log_index} began: catalog.db was changed; "
            f"{REBUILD}"
        )


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the failure that came first, however deep tasks were nested."""
    found: BaseException = failed
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
