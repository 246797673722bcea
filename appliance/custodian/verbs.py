"""Every method of the socket's interface, one function each: decide, then act.

A verb that changes or starts something goes through the gate itself; what a job then needs is asked for by
the job. Nothing here holds a key.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from appliance import __version__
from appliance.catalog import Job, Object
from appliance.custodian import exports, imports, leaving, screen, tasks
from appliance.custodian.accounts import Accounts
from appliance.custodian.approving import Approving
from appliance.custodian.audits import Audits
from appliance.custodian.breach import Alarm
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.custodies import Custodies, unlock
from appliance.custodian.evaluations import Evaluations
from appliance.custodian.metrics import metrics_of
from appliance.custodian.policies import Policies
from appliance.custodian.receipts import Receipts
from appliance.custodian.replays import Replays
from appliance.custodian.sealing import Sealing, look, secret_of
from appliance.custodian.trains import Trains
from appliance.custodian.vaulting import Vaulting
from appliance.custodian.watching import Watching
from appliance.errors import SealedError, UnknownObject, UsageError
from appliance.gate import NamedObject, Thing
from appliance.grants import LiveGrants
from appliance.strictjson import JSON
from policy.model import Entity


class Verbs:
    """The verbs of one custodian."""

    def __init__(
        self,
        core: Core,
        trains: Trains,
        environment: Mapping[str, str],
        alarm: Alarm,
        *,
        reseal: Callable[[], Awaitable[None]],
        end: Callable[[], None],
    ) -> None:
        self._core = core
        self._trains = trains
        self._environment = environment
        self._end = end
        self._unsealing = asyncio.Lock()
        self._sealing = Sealing(core, trains, alarm, self._unsealing, reseal=reseal)
        self._accounts = Accounts(core, trains, environment)

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {
            "Status": self.status,
            "Shutdown": self.shutdown,
            "ImportBundle": self.import_bundle,
            "Train": self.train,
            "ListJobs": self.list_jobs,
            "ListObjects": self.list_objects,
            "Stop": self.stop,
            "Sample": self.sample,
            "Export": self.export,
            "RecoverIdentity": self.recover_identity,
            "TreeHead": self.tree_head,
            "Receipt": self.receipt,
            **self._sealing.table(),
            **Audits(self._core).table(),
            **self._accounts.table(),
            **Watching(self._core, self._trains).table(),
            **Evaluations(self._core, self._environment).table(),
            **Replays(self._core, self._environment).table(),
            **Custodies(self._core, self._unsealing).table(),
            **Vaulting(self._core).table(),
            **Approving(self._core).table(),
            **Receipts(self._core).table(),
            **Policies(self._core, self._trains).table(),
        }

    async def status(self, caller: Caller) -> Answer:
        """Say how the appliance is; answers even when the log is dead, so that an operator learns why."""
        core = self._core
        look(self._core, caller, "status")
        world = core.world()
        return {
            "version": __version__,
            "origin": core.facts.origin,
            "profile": core.facts.profile,
            "isolated": world.isolated,
            "sealed": core.sealed,
            "custody": core.custody_uri,
            "recovery": core.facts.recovery,
            "log_custody": core.facts.log_custody,
            "log_size": core.log.size,
            "log_alive": core.log_alive,
            "witnesses": world.witnesses,
            "unwitnessed_entries": world.unwitnessed_entries,
            "unwitnessed_age_s": world.unwitnessed_age_s,
            "break_glass": core.allowance.is_open,
            "objects": len(core.catalog.list()),
            "jobs_running": self._trains.running(),
            "egress": leaving.standing(core),
            "accounts": self._shown_accounts(caller),
            "disk": screen.disk(core),
            "refusals": screen.refusals(core),
            "warnings": core.warnings(),
            "pid": os.getpid(),
        }

    async def shutdown(self, caller: Caller) -> Answer:
        """End the appliance after a last entry; works with a dead log too, since it releases nothing."""
        look(self._core, caller, "stop")
        await self._trains.end_all("shutdown")
        self._end()
        return {}

    async def import_bundle(self, caller: Caller) -> Answer:
        """Import the bundle in the caller's folder."""
        person = self._core.person(caller.uid)
        folder = os.dup(caller.descriptor("folder_fd"))
        imported = await imports.import_bundle(self._core, self._environment, person, folder)
        return {
            "bundle": imported.manifest.bundle_id,
            "channel": imported.manifest.channel,
            "seq": imported.manifest.seq,
            "objects": [object_json(row) for row in imported.objects],
            "approvals": imported.approvals.answer() if imported.approvals else None,
        }

    async def train(self, caller: Caller) -> Answer:
        """Start a job from a sealed config or a file, or resume one."""
        person = self._core.person(caller.uid)
        given = [
            name for name in ("config", "source_fd", "resume") if caller.parameters.get(name) is not None
        ]
        if len(given) != 1:
            raise UsageError(
                f"expected one of a config's name, a file and a job to resume, found {len(given)}"
            )
        ranks = caller.number("ranks") if caller.parameters.get("ranks") is not None else 1
        if given == ["resume"]:
            return {"job": self._trains.resume(person, caller.text("resume"), ranks)}
        if given == ["config"]:
            named = NamedObject("config", caller.text("config"))
            return {"job": self._trains.start(person, named, caller.text("name"), ranks)}
        source = os.dup(caller.descriptor("source_fd"))
        size = os.fstat(source).st_size
        name = caller.text("source_name") or "config"
        config = await tasks.seal_config(self._core, self._environment, person, name, source, size)
        return {"job": self._trains.start(person, config, caller.text("name"), ranks)}

    async def list_jobs(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Yield every job, oldest first."""
        look(self._core, caller, "status")
        for row in self._core.catalog.jobs():
            account = self._accounts.shown_to(self._core.person(caller.uid), row.id)
            yield {"job": {**job_json(row), "account": account}}

    async def list_objects(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Yield every object's catalog row; contents need another right."""
        self._decide(caller, "status")
        for row in self._core.catalog.list(caller.text("kind") or None):
            yield {"object": object_json(row)}

    async def stop(self, caller: Caller) -> Answer:
        """Ask a running job to end with a checkpoint."""
        job = caller.text("job")
        row = self._core.catalog.job(job)
        record = Entity("JobRecord", job, {"owner": row.owner, "purpose": "train"})
        self._core.gate.request(self._core.person(caller.uid), "stop", Thing(record), job=job)
        self._trains.stop(job)
        return {"state": "stopping"}

    async def sample(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Yield a model's continuation of a prompt."""
        numbers: dict[str, int | float | str] = {
            "prompt": caller.text("prompt"),
            "length": caller.number("length"),
            "temperature": caller.real("temperature"),
            "top_k": caller.number("top_k"),
            "top_p": caller.real("top_p") if caller.parameters.get("top_p") is not None else 1.0,
            "stop": caller.text("stop"),
            "seed": caller.number("seed"),
        }
        person = self._core.person(caller.uid)
        async with contextlib.aclosing(
            tasks.sample(self._core, self._environment, person, caller.text("model"), numbers)
        ) as pieces:
            async for text in pieces:
                yield {"text": text}

    async def export(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Write a signed, encrypted bundle into the caller's folder."""
        person = self._core.person(caller.uid)
        folder = os.dup(caller.descriptor("folder_fd"))
        model = caller.text("model")
        figures = self._metrics(model) if caller.parameters.get("metrics") else None
        wanted = exports.Wanted(model, caller.text("recipient"), caller.text("request"), caller.uid, figures)
        async with contextlib.aclosing(
            exports.export(self._core, self._environment, person, wanted, folder)
        ) as stages:
            async for stage in stages:
                yield {
                    "stage": stage.stage,
                    "part": stage.part,
                    "parts": stage.parts,
                    "bundle": stage.bundle or None,
                }

    def _metrics(self, job: str) -> bytes:
        training = self._trains.find(job)
        return metrics_of(self._core, job, training.run.events if training is not None else ())

    async def recover_identity(self, caller: Caller) -> Answer:
        """Write the vault identity to the caller's pipe, after the same secret that unseals."""
        core = self._core
        secret = await secret_of(caller)
        if core.sealed:
            raise SealedError("the vault is sealed: open it with `appliance unseal` first")
        self._decide(caller, "configure", {"setting": "recover-identity"})
        # Opened apart, with a table of its own: wiping it must not end the leases of running jobs.
        alone = LiveGrants(time.monotonic)
        again = await asyncio.to_thread(unlock, core, alone, secret)
        try:
            again.reveal_identity(caller.descriptor("secret_out_fd"))
        finally:
            again.wipe()
        return {}

    async def tree_head(self, caller: Caller) -> Answer:
        """Return the newest signed tree head."""
        self._decide(caller, "status")
        return {"note": self._core.log.tree_head().decode("utf-8")}

    async def receipt(self, caller: Caller) -> Answer:
        """Return one entry and its receipt."""
        self._decide(caller, "status")
        index = caller.number("index")
        if not 0 <= index < self._core.log.size:
            raise UnknownObject(f"expected an entry of 0 to {self._core.log.size - 1}, found {index}")
        under = None
        if caller.parameters.get("witnessed"):
            under = self._core.witnessing.note_over(index)
            if under is None:
                raise UnknownObject(f"no witnessed head covers entry {index}: see `appliance audit status`")
        found = self._core.gate.receipt_of(index, under)
        return {
            "proof": base64.b64encode(found.receipt).decode("ascii"),
            "entry": base64.b64encode(found.entry).decode("ascii"),
        }

    def _shown_accounts(self, caller: Caller) -> list[JSON]:
        person = self._core.person(caller.uid)
        shown = [self._accounts.shown_to(person, job) for job in self._trains.running()]
        return [account for account in shown if account is not None]

    def _decide(self, caller: Caller, action: str, context: Mapping[str, str] | None = None) -> None:
        person = self._core.person(caller.uid)
        self._core.gate.request(person, action, Thing(self._core.appliance()), context)


def object_json(row: Object) -> dict[str, JSON]:
    """Return a catalog row as the interface's type Object."""
    return {
        "id": row.id,
        "kind": row.kind,
        "name": row.name,
        "version": row.version,
        "size_bytes": row.size,
        "sha256": row.sha256,
        "parents": list(row.parents),
        "compartments": list(row.compartments),
        "state": "retired" if row.retired else row.state,
        "job": row.job,
        "log_index": row.log_index,
        "created": row.created,
    }


def job_json(row: Job) -> dict[str, JSON]:
    """Return a job's row as the interface's type Job."""
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "owner": row.owner,
        "config": row.config,
        "step": row.step,
        "steps": row.steps,
        "created": row.created,
        "reason": row.reason,
        "results": list(row.results),
    }
