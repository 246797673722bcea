"""Jobs: what runs, who started it, what it told, and the receipts of everything it was given.

A job belongs to the custodian, not to the connection that started it: clients watch, leave and come back.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

from appliance.catalog import Object
from appliance.custodian.core import Core, job_entity
from appliance.custodian.workers import Worker
from appliance.errors import SpaceExhausted, UnknownObject
from appliance.gate import Allowed, NamedObject
from appliance.strictjson import JSON
from audit.log import Committed

MAX_EVENTS = 100_000
FINAL = ("done", "stopped", "failed")


def new_job_id(purpose: str) -> str:
    """Return an unguessable job id that starts with what the job is for."""
    return f"{purpose}-{secrets.token_hex(6)}"


class Run:
    """One run of one job: its events, its rights, its receipts."""

    def __init__(self, core: Core, job: str, owner: str, purpose: str, named: Iterable[str] = ()) -> None:
        """Begin a run whose decision named these objects: it may use them, and what is added by `name`."""
        self.core = core
        self.job = job
        self.owner = owner
        self.purpose = purpose
        self.used: list[Object] = []
        self.labels: set[str] = set()
        """Of all that this run was given keys of; what it makes carries them, and they never get fewer."""
        self.events: list[dict[str, JSON]] = []
        self._objects = set(named)
        self._began = time.monotonic()
        self._changed = asyncio.Event()

    def name(self, row: Object, by: Object) -> None:
        """Add an object that a granted one names (a config names its corpus), and log that it did."""
        context = {"job": self.job, "object": row.id, "object_name": f"{row.kind}/{row.name}", "by": by.id}
        self.keep(
            self.core.gate.outcome("object-named", f"Job:{self.job}", "name", f"Object:{row.id}", context)
        )
        self._objects.add(row.id)

    def keep(self, committed: Committed) -> None:
        """Keep a receipt and its entry with the job."""
        folder = self.core.home.jobs / self.job
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{committed.index}.tlog-proof", committed.receipt)
        _write(folder / f"{committed.index}.entry", committed.entry)

    def use(self, resource: NamedObject | Object) -> Allowed:
        """Ask for one object on this job's behalf; raises what the gate raises."""
        told = self.core.facts.compartments.get(self.owner, ())
        principal = job_entity(self.job, self.owner, self.purpose, self._objects, told)
        allowed = self.core.gate.request(principal, "use", resource, job=self.job)
        self.keep(allowed.committed)
        if (read := allowed.object) is not None:
            at = self.events[-1] if self.events else {"step": 0, "steps": 0}
            said = f"{read.kind} {read.name}"
            self.tell("granted", int(str(at["step"])), int(str(at["steps"])), object=read.id, reason=said)
        return allowed

    def give(self, worker: Worker, role: str, resource: Object) -> None:
        """Have one object granted to this job, unwrap its key and hand both to the worker."""
        allowed = self.use(resource)
        key = self.core.custody.unwrap(allowed.grant).key
        self.labels |= set(resource.compartments)
        payload = self.core.vault.open_payload(resource.id)
        worker.give_input(role, resource.kind, payload, key)
        if resource not in self.used:  # each rank of a job is given the same
            self.used.append(resource)

    def find(self, kind: str, name: str) -> Object:
        """Return the newest object of this name; what is unknown or not the log's is denied, and logged."""
        row = self.core.find(kind, name)
        if row is None:
            self.use(NamedObject(kind, name))
            raise UnknownObject(f"there is no {kind} named {name}")
        return row

    def tell(self, kind: str, step: int, steps: int, **figures: JSON) -> None:
        """Add an event for whoever watches."""
        if len(self.events) >= MAX_EVENTS and kind not in FINAL:
            return
        event: dict[str, JSON] = {
            "seq": len(self.events) + 1,
            "kind": kind,
            "step": step,
            "steps": steps,
            "elapsed_s": round(time.monotonic() - self._began, 2),
            **figures,
        }
        self.events.append(event)
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int) -> AsyncGenerator[dict[str, JSON], None]:
        """Yield events with a larger seq than `after`, as they come, until the job has ended."""
        position = max(after, 0)
        while True:
            changed = self._changed
            while position < len(self.events):
                event = self.events[position]
                position += 1
                yield event
                if event["kind"] in FINAL:
                    return
            await changed.wait()


def _write(path: Path, data: bytes) -> None:
    """Write one receipt whole or not at all; raises SpaceExhausted."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
    except OSError as full:
        path.unlink(missing_ok=True)
        raise SpaceExhausted(f"{path}: {full.strerror}; the log can issue this receipt again") from full
