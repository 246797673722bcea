"""A model as a job uses it: weights, the config they were trained with, and their tokenizer of byte pairs.

Which objects belong together is what the weights' own entry names as parents. Each of them goes to the worker
under a grant of its own, and who asks has to know the labels of all.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.catalog import Object
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run
from appliance.custodian.workers import Worker
from appliance.errors import UnknownObject


@dataclass(frozen=True, slots=True)
class Model:
    """The objects of one model; one that reads bytes has no tokenizer."""

    weights: Object
    config: Object
    tokenizer: Object | None

    @property
    def parts(self) -> tuple[Object, ...]:
        """All objects, in the order in which they are handed over; each one's role is its kind."""
        return (self.weights, self.config, *([self.tokenizer] if self.tokenizer else ()))

    @property
    def ids(self) -> tuple[str, ...]:
        """What a decision about the model names."""
        return tuple(part.id for part in self.parts)

    def give(self, run: Run, worker: Worker) -> None:
        """Have each part granted to the job and hand it to the worker."""
        for part in self.parts:
            run.give(worker, part.kind, part)


def model_of(core: Core, weights: Object) -> Model:
    """Return the model that weights belong to; raises UnknownObject where they name no config."""
    parents = [core.catalog.get(parent) for parent in weights.parents]
    found = {row.kind: row for row in reversed(parents)}  # of two of a kind, the one named first
    if "config" not in found:
        raise UnknownObject(
            f"weights {weights.name} name no config among their parents: see `appliance objects`"
        )
    return Model(weights, found["config"], found.get("tokenizer"))
