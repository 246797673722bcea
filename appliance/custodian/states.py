"""The saved states of a job that is resumed: the newest one that opens, and a word about each that does not.

Damage shows in two places. The custodian finds that a file is missing or that a header does not unwrap; the
worker finds that a payload is not what was sealed. Either way the log says which checkpoint it was, whoever
watches is told, and the one before it is handed out. None left is an error: a job never begins anew unasked.
"""

from __future__ import annotations

from appliance.catalog import Checkpoint, Job
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run
from appliance.custodian.workers import Worker
from appliance.errors import Incomplete, IntegrityError, ProtocolError, UnknownObject
from appliance.worklink import Began
from audit.entry import JSON

_REFERENCE = "reference"  # the backend that computes where no compiled one does
_DAMAGE = (IntegrityError, Incomplete, UnknownObject)


class States:
    """What one resumed job may go on from, newest first."""

    def __init__(self, core: Core, run: Run, row: Job) -> None:
        self._core = core
        self._run = run
        self._row = row
        self._left = list(row.kept)
        self._given: Checkpoint | None = None

    @property
    def given(self) -> Checkpoint | None:
        """The state that was handed out last, None where the job begins with none."""
        return self._given

    @property
    def named(self) -> list[str]:
        """Ids of all objects that this may give out."""
        return [name for each in self._row.kept for name in (each.weights, each.optimizer)]

    def give_next(self, worker: Worker) -> None:
        """Hand over the newest state that was not tried yet, if the job has any.

        Raises IntegrityError when all of them turned out damaged.
        """
        if not self._row.kept:
            return
        while self._left:
            self._given = self._left.pop()
            before = len(self._run.used)
            try:
                self._run.give(worker, "weights", self._core.catalog.get(self._given.weights))
                self._run.give(worker, "optimizer", self._core.catalog.get(self._given.optimizer))
            except _DAMAGE as damage:
                del self._run.used[before:]
                self._tell_damage(self._given, damage.code)
                continue
            return
        raise IntegrityError(
            f"none of the {len(self._row.kept)} checkpoints of job {self._row.id} opens: restore the vault "
            "from a backup, or start the config anew"
        )

    def damaged(self, worker: Worker) -> None:
        """Take a worker's word that the state which it was given does not open, and give the one before."""
        if self._given is None:
            raise ProtocolError("a training worker spoke of a damaged state, and was given none")
        bad = {self._given.weights, self._given.optimizer}
        self._run.used[:] = [row for row in self._run.used if row.id not in bad]
        self._tell_damage(self._given, IntegrityError.code)
        self.give_next(worker)
        worker.proceed()

    def began(self, message: Began) -> None:
        """Log from which state and on which backend a job goes on, and say so where the bits will differ."""
        if message.step != (self._given.step if self._given else 0):
            raise ProtocolError("a training worker went on from another state than it was given")
        same = message.made_on == message.backend
        context: dict[str, JSON] = {
            "job": self._row.id,
            "step": message.step,
            "made_on": message.made_on,
            "backend": message.backend,
            "threads": message.threads,
            "repeats_to_the_bit": same,
        }
        self._outcome("job-resumed" if self._given else "job-began", context)
        self._run.tell("computing", message.step, self._row.steps, reason=_computes(message))
        if not same:
            reason = (
                f"made on {message.made_on}, goes on with {message.backend}: the numbers are no longer "
                "those of an unbroken run"
            )
            self._run.tell("resumed", message.step, self._row.steps, reason=reason)

    def _tell_damage(self, checkpoint: Checkpoint, code: str) -> None:
        context: dict[str, JSON] = {
            "job": self._row.id,
            "step": checkpoint.step,
            "objects": [checkpoint.weights, checkpoint.optimizer],
            "reason": code,
        }
        self._outcome("checkpoint-damaged", context)
        reason = f"{code}: the checkpoint of step {checkpoint.step} does not open, trying the one before it"
        self._run.tell("damaged", checkpoint.step, self._row.steps, reason=reason)

    def _outcome(self, kind: str, context: dict[str, JSON]) -> None:
        resource = f"JobRecord:{self._row.id}"
        self._run.keep(self._core.gate.outcome(kind, "Custodian:custodian", "train", resource, context))


def _computes(began: Began) -> str:
    """Say what a job computes on, and what it costs where that is not the compiled kernels."""
    where = f"on {began.backend}, {began.threads} thread{'s' if began.threads != 1 else ''}"
    if began.backend != _REFERENCE:
        return where
    return (
        f"{where}: several times slower than the compiled kernels, which were not built here; install a C++ "
        "compiler (g++), then install the appliance again"
    )
