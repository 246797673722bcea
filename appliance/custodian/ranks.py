"""A training job on several ranks: workers that start together, are watched together and end together.

Rank 0 is the job's worker and the only one that seals and tells; the others get what it was given, each under
grants of their own, and say that they are alive. One that dies, or is silent for long, ends the job: the
others would wait for it without end. What was checkpointed stands.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence

from appliance.custodian.core import Core
from appliance.custodian.jobs import Run
from appliance.custodian.pmi import PMI_FD, Meeting
from appliance.custodian.states import States
from appliance.custodian.workers import Worker
from appliance.errors import JobFailed, ProtocolError, UsageError
from appliance.worklink import Alive, Began, Finished, WantInput
from audit.entry import JSON

PATIENCE_VARIABLE = "APPLIANCE_RANK_PATIENCE_S"
PATIENCE_S = 60.0  # beyond the longest that an evaluation or a slow disk holds all ranks up together
TICK_S = 0.5
_SAME_INPUT_S = 60.0


def check_ranks(ranks: int) -> int:
    """Return a number of ranks; raises UsageError beyond the cores that this host has for them."""
    cores = len(os.sched_getaffinity(0))
    if not 1 <= ranks <= cores:
        raise UsageError(f"expected 1 to {cores} ranks, one core each at least, found {ranks}")
    return ranks


async def start_ranks(
    core: Core, run: Run, name: str, ranks: int, environment: Mapping[str, str]
) -> list[Worker]:
    """Start all ranks at once, for each waits for the others; what each jail came to is logged."""
    if ranks == 1:
        workers = [await Worker.start("train", run.job, core.facts.profile, {"name": name}, environment)]
    else:
        workers = await _start_together(core, run, name, ranks, environment)
    for rank, worker in enumerate(workers):
        assert worker.jail is not None  # noqa: S101  a started worker has reported its jail
        core.jail_lacks = worker.jail.missing
        jail: dict[str, JSON] = {
            "job": run.job,
            "took": list(worker.jail.took),
            "missing": list(worker.jail.missing),
            "landlock_abi": worker.jail.landlock_abi,
            **({"rank": rank, "ranks": ranks, "jail": "rank"} if ranks > 1 else {}),
        }
        run.keep(core.gate.outcome("jail", "Custodian:custodian", "train", f"JobRecord:{run.job}", jail))
    return workers


async def _start_together(
    core: Core, run: Run, name: str, ranks: int, environment: Mapping[str, str]
) -> list[Worker]:
    meeting = Meeting(run.job, ranks)
    starting: list[asyncio.Task[Worker]] = []
    try:
        for rank in range(ranks):
            door = await meeting.door()
            own = {**environment, **meeting.environment(rank), "OMP_NUM_THREADS": "1"}
            numbers: dict[str, JSON] = {"name": name, "rank": rank, "ranks": ranks}
            start = Worker.start("train", run.job, core.facts.profile, numbers, own, extra=(door,))
            starting.append(asyncio.get_running_loop().create_task(start))
            await asyncio.sleep(0)  # the child has its copy: this end may go
            os.close(door)
        return list(await asyncio.gather(*starting))
    except BaseException:
        for task in starting:
            task.cancel()
        for worker in await asyncio.gather(*starting, return_exceptions=True):
            if isinstance(worker, Worker):
                await worker.end()
        raise
    finally:
        meeting.close()


class Others:
    """The ranks of a job beside rank 0."""

    def __init__(self, core: Core, run: Run, states: States, workers: Sequence[Worker]) -> None:
        self.workers = list(workers)
        self._core = core
        self._run = run
        self._states = states

    async def follow(self, began: asyncio.Event, leader: Worker) -> None:
        """Give each rank what rank 0 was given, then listen until all are finished.

        Raises JobFailed for one that dies or is silent for too long.
        """
        if not self.workers:
            return
        await began.wait()
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch([leader, *self.workers]))
            followed = [group.create_task(self._follow(rank, w)) for rank, w in enumerate(self.workers, 1)]
            await asyncio.wait(followed, return_when=asyncio.ALL_COMPLETED)
            watch.cancel()

    async def end(self) -> None:
        """End all of them now."""
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            await worker.end()

    async def _follow(self, rank: int, worker: Worker) -> None:
        self._give_state(worker)
        try:
            while True:
                message = await worker.receive()
                if isinstance(message, WantInput):
                    await self._give_same(worker, message)
                elif isinstance(message, Finished):
                    return
                elif not isinstance(message, Alive | Began):
                    raise ProtocolError(f"rank {rank} of a training job said {type(message).__name__}")
        except JobFailed as died:
            raise JobFailed(f"rank {rank} of {len(self.workers) + 1}: {died}") from died

    def _give_state(self, worker: Worker) -> None:
        row = self._core.catalog.job(self._run.job)
        self._run.give(worker, "config", self._core.catalog.get(row.config))
        if (state := self._states.given) is not None:
            self._run.give(worker, "weights", self._core.catalog.get(state.weights))
            self._run.give(worker, "optimizer", self._core.catalog.get(state.optimizer))
        worker.proceed()

    async def _give_same(self, worker: Worker, want: WantInput) -> None:
        """Hand over the very object that rank 0 was given under this name, once it was."""
        deadline = time.monotonic() + _SAME_INPUT_S
        while time.monotonic() < deadline:
            for row in self._run.used:
                if (row.kind, row.name) == (want.object_kind, want.name):
                    self._run.give(worker, row.kind, row)
                    return
            await asyncio.sleep(TICK_S / 10)
        raise ProtocolError(f"a rank asked for a {want.object_kind[:20]!r} that rank 0 was not given")

    async def _watch(self, workers: Sequence[Worker]) -> None:
        """Raise JobFailed when a rank has been silent for long; neither suspension nor set clocks count."""
        patience = float(os.environ.get(PATIENCE_VARIABLE, PATIENCE_S))
        while True:
            await asyncio.sleep(TICK_S)
            silent = [time.monotonic() - worker.heard_at for worker in workers]
            if max(silent) > patience:
                rank = silent.index(max(silent))
                raise JobFailed(
                    f"rank {rank} of {len(workers)} has been silent for {patience:.0f} s; the job was ended, "
                    "and what it had checkpointed stands"
                )


assert PMI_FD == 4  # noqa: S101  `Child` places the first extra descriptor there
