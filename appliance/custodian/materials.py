"""What a training job is made of besides its config: corpora, weights to begin with, and its tokenizer.

A worker asks by kind and name and gets no more of a kind than a config can name. A job that goes on gets the
very corpora and the very tokenizer that it began with, whatever was sealed under their names since.
"""

from __future__ import annotations

from appliance.catalog import Job, Object
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run
from appliance.custodian.outputs import Outputs
from appliance.custodian.workers import Worker, checked_name
from appliance.errors import ApplianceError, ProtocolError
from appliance.training.keys import MAX_CORPORA
from appliance.worklink import Made, Refused, WantInput

TOKENIZER = "tokenizer"
_MOST = {"corpus": MAX_CORPORA, "weights": 1, TOKENIZER: 1}


def give_named(core: Core, run: Run, row: Job, worker: Worker, want: WantInput) -> None:
    """Grant what the config names; the worker learns only a refusal's code."""
    kind = want.object_kind
    if kind not in _MOST:
        raise ProtocolError(f"a training worker asked for a {kind[:20]!r}")
    name = checked_name(want.name)
    given = [each for each in run.used if each.kind == kind and (each.job != run.job or kind == TOKENIZER)]
    if len(given) >= _MOST[kind] or name in {each.name for each in given}:
        raise ProtocolError(f"a training worker asked for more {kind} than a config names")
    try:
        named = _asked_for(core, run, row, kind, name)
        run.name(named, by=run.used[0])
        run.give(worker, kind, named)
        if kind == "corpus" and named.id not in core.catalog.job(run.job).corpora:
            core.catalog.add_corpus(run.job, named.id)
    except ApplianceError as refused:
        worker.send(Refused(refused.code))
        raise


def _asked_for(core: Core, run: Run, row: Job, kind: str, name: str) -> Object:
    """Return the object of this name: the newest, or for a job that goes on the one it was made with.

    That one is among the parents of its state, which the log names and the gate compared when the job was
    resumed; what the catalog says of the job itself is not asked. Raises ProtocolError where none of them is.
    """
    if not row.kept:
        return run.find(kind, name)
    parents = map(core.catalog.get, core.catalog.get(row.kept[-1].weights).parents)
    found = [each for each in parents if (each.kind, each.name) == (kind, name)]
    if not found:
        raise ProtocolError(f"a training worker asked for a {kind} that the job was not made with")
    return found[-1]


async def publish_tokenizer(core: Core, run: Run, outputs: Outputs, message: Made) -> None:
    """Verify and publish the tokenizer that a job trains for itself; what it makes from here on names it."""
    if outputs.kind_of(message.token) != TOKENIZER or any(used.kind == TOKENIZER for used in run.used):
        raise ProtocolError("a training worker named another output than its one tokenizer")
    (made,) = await outputs.publish([message.token], run.used)
    run.name(made, by=run.used[0])  # each other rank is given it
    run.used.append(made)
    run.keep(core.gate.receipt_of(made.log_index))
