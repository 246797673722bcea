"""Short tasks: seal a config that came as a file, and stream a sample.

Each is one worker under one decision, and leaves nothing behind when its caller hangs up.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from appliance.catalog import Object
from appliance.custodian import leaving
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run, new_job_id
from appliance.custodian.models import model_of
from appliance.custodian.outputs import Outputs
from appliance.custodian.workers import Worker, checked_name
from appliance.errors import ProtocolError, UnknownObject, UsageError
from appliance.gate import NamedObject, Thing
from appliance.messages import close_fds
from appliance.worklink import Finished, GiveFile, Sealed, Text, WantOutput
from policy.model import Entity

MAX_CONFIG_BYTES = 64 * 1024
MAX_PROMPT_CHARACTERS = 4096
MAX_SAMPLE_BYTES = 65536


async def seal_config(
    core: Core, environment: Mapping[str, str], person: Entity, name: str, descriptor: int, size_bytes: int
) -> Object:
    """Seal a TOML config from a file descriptor; a jailed worker parses it first.

    Allowed in the development profile only: whoever wrote the file has seen what is in it. Takes ownership of
    the descriptor.
    """
    job = new_job_id("ingest")
    try:
        checked_name(name)
        if not 0 < size_bytes <= MAX_CONFIG_BYTES:
            raise UsageError(f"expected a config of 1 to {MAX_CONFIG_BYTES} bytes, found {size_bytes}")
        attrs = {"kind": "config", "name": name, "state": "staged", "compartments": ()}
        core.custody  # noqa: B018  raises SealedError before anything is asked
        entity = Entity("Object", f"config/{name}", attrs)
        core.gate.request(person, "create", Thing(entity), {"source": "path"}, job=job)
        worker = await Worker.start("ingest", job, core.facts.profile, {"name": name}, environment)
    except BaseException:
        close_fds([descriptor])
        raise
    outputs = Outputs(core, job, ("config",), environment, name=name)
    try:
        worker.send(GiveFile(f"{name}.toml", size_bytes), (descriptor,))
        worker.proceed()
        outputs.open(worker, await worker.expect(WantOutput))
        sealed = await worker.expect(Sealed)
        outputs.sealed(sealed)
        return (await outputs.publish([sealed.token], ()))[0]
    finally:
        core.live.revoke_job(job)
        outputs.discard()
        await worker.end()


async def sample(
    core: Core,
    environment: Mapping[str, str],
    person: Entity,
    model: str,
    numbers: Mapping[str, int | float | str],
) -> AsyncGenerator[str, None]:
    """Yield a continuation piece by piece; `numbers` are the settings of the interface."""
    core.custody  # noqa: B018  raises SealedError before anything is asked
    if (
        max(len(str(numbers["prompt"])), len(str(numbers["stop"]))) > MAX_PROMPT_CHARACTERS
        or not 0 < int(numbers["length"]) <= MAX_SAMPLE_BYTES
    ):
        limits = (
            f"expected a prompt and a stop of at most {MAX_PROMPT_CHARACTERS} characters "
            f"and 1 to {MAX_SAMPLE_BYTES} bytes to add"
        )
        raise UsageError(limits)
    job = new_job_id("sample")
    weights = _weights(core, model)
    if weights is None:
        core.gate.request(person, "sample", NamedObject("weights", model), job=job)
        raise UnknownObject(f"there are no weights named {model}")
    found = model_of(core, weights)
    asked = (core, "text", f"Person:{person.id}", int(numbers["length"]))
    core.gate.request(
        person,
        "sample",
        weights,
        leaving.facts(*asked),
        job=job,
        named=found.ids,
        lacks=leaving.lacks(*asked),
    )
    leaving.charge(*asked, person=person.id, job=job)
    run = Run(core, job, person.id, "sample", found.ids)
    worker = await Worker.start("sample", job, core.facts.profile, dict(numbers), environment)
    try:
        found.give(run, worker)
        worker.proceed()
        length = 0
        while True:
            message = await worker.receive()
            if isinstance(message, Finished):
                break
            if not isinstance(message, Text):
                raise ProtocolError(f"a sampling worker said {type(message).__name__}")
            length += len(message.text.encode("utf-8"))  # what was charged, and what a client gets
            if length > int(numbers["length"]):
                raise ProtocolError("a sampling worker said more than was asked for and counted")
            yield message.text
        core.gate.outcome(
            "job-ended",
            "Custodian:custodian",
            "sample",
            f"JobRecord:{job}",
            {"job": job, "bytes": length},
        )
    finally:
        await worker.end()
        core.live.revoke_job(job)


def _weights(core: Core, model: str) -> Object | None:
    """Return the newest weights of a name, or of NAME@VERSION that one version."""
    name, at, version = model.partition("@")
    if not at:
        return core.find("weights", model)
    found = (row for row in core.catalog.list("weights") if (row.name, str(row.version)) == (name, version))
    return next(found, None)
