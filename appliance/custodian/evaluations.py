"""How well a model predicts a corpus: one worker under one decision, a few figures, no text.

A question may ask about any weights and any corpus that its person may know; the figures are logged as
commitments, since they say something about both.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.catalog import Object
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run, new_job_id
from appliance.custodian.models import Model, model_of
from appliance.custodian.workers import Worker
from appliance.errors import UnknownObject
from appliance.gate import NamedObject
from appliance.worklink import Evaluated
from policy.model import Entity

DIGITS = 5


class Evaluations:
    """The evaluation verb of one custodian."""

    def __init__(self, core: Core, environment: Mapping[str, str]) -> None:
        self._core = core
        self._environment = environment

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"Evaluate": self.evaluate}

    async def evaluate(self, caller: Caller) -> Answer:
        """Measure a model on a corpus."""
        core, person = self._core, self._core.person(caller.uid)
        core.custody  # noqa: B018  raises SealedError before anything is asked
        job = new_job_id("evaluate")
        weights = self._find(person, job, "weights", caller.text("model"))
        corpus = self._find(person, job, "corpus", caller.text("corpus"))
        model = model_of(core, weights)
        named = (*model.ids, corpus.id)
        core.gate.request(person, "evaluate", weights, job=job, named=named)
        run = Run(core, job, person.id, "evaluate", named)
        found = await self._measured(run, model, corpus)
        secret = {
            "tokens": found.tokens,
            "size_bytes": found.size_bytes,
            "microbits_per_byte": round(1e6 * found.bits_per_byte),
        }
        context = {"job": job, "weights": weights.id, "corpus": corpus.id}
        resource = f"JobRecord:{job}"
        core.gate.outcome("evaluated", "Custodian:custodian", "evaluate", resource, context, secret=secret)
        return {
            "tokens": found.tokens,
            "size_bytes": found.size_bytes,
            "nats_per_token": round(found.nats_per_token, DIGITS),
            "bits_per_byte": round(found.bits_per_byte, DIGITS),
        }

    async def _measured(self, run: Run, model: Model, corpus: Object) -> Evaluated:
        core = self._core
        worker = await Worker.start("evaluate", run.job, core.facts.profile, environment=self._environment)
        try:
            model.give(run, worker)
            run.give(worker, corpus.kind, corpus)
            worker.proceed()
            return await worker.expect(Evaluated)
        finally:
            await worker.end()
            core.live.revoke_job(run.job)

    def _find(self, person: Entity, job: str, kind: str, name: str) -> Object:
        """Return the newest object of this name; what is unknown or not the log's is denied, and logged."""
        row = self._core.find(kind, name)
        if row is None:
            self._core.gate.request(person, "evaluate", NamedObject(kind, name), job=job)
            raise UnknownObject(f"there is no {kind} named {name}")
        return row
