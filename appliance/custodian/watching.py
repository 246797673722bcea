"""What a job told and what the log says about it, for those who may look.

A watcher is answered from where it left off: events are numbered from 1 within the job. Entries come with
receipts under one tree head, so that who reads them need not believe this process.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping

from appliance.catalog import Job
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.needtoknow import carries, labels_of
from appliance.custodian.retention import Figures
from appliance.custodian.sealing import look
from appliance.custodian.trains import Trains
from appliance.gate import Thing
from appliance.strictjson import JSON
from audit.entry import Entry, parse_entry
from policy.model import Entity

MAX_ENTRIES = 5000  # of one job in one answer; a log is read whole with `python -m audit show`
_PAUSE_EVERY = 64  # entries read between two turns for everybody else
_LOOKING = ("status", "account")  # who looked at a job is not part of what it did
_MEASURED = ("loss", "bits_per_byte", "learning_rate", "tokens_per_s")
_FIGURES = (*_MEASURED, "object", "reason")


class Watching:
    """The verbs of one custodian that look at one job."""

    def __init__(self, core: Core, trains: Trains) -> None:
        self._core = core
        self._trains = trains

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"Watch": self.watch, "ListEntries": self.entries}

    async def watch(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Yield a job's events after `after`, as they come unless `follow` is false.

        Of a job of an earlier start there are the evaluations that the catalog keeps, and its last state.
        Who does not carry the labels of all that the job works on gets no figures.
        """
        job, after = caller.text("job"), caller.number("after")
        look(self._core, caller, "status")
        training, person = self._trains.find(job), self._core.person(caller.uid)
        row = self._core.catalog.job(job)
        labels = labels_of(self._core, row, training.run if training else None)
        if training is None:
            for event in _kept(self._core, row):
                if int(str(event["seq"])) > after:
                    yield _told(person, labels, event)
        elif caller.parameters.get("follow", True) is False:
            for event in training.run.events[max(after, 0) :]:
                yield _told(person, labels, event)
        else:
            async for event in training.run.follow(after):
                yield _told(person, labels | training.run.labels, event)

    async def entries(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Yield the log's entries about a job, what it was made of and what was asked for what it made."""
        core, row = self._core, self._core.catalog.job(caller.text("job"))
        record = Entity("JobRecord", row.id, {"owner": row.owner, "purpose": "train"})
        core.gate.request(core.person(caller.uid), "status", Thing(record))
        note = core.log.tree_head()
        told = 0
        about = _About(core, row)
        for number, index in enumerate(about.places(core.log.size)):
            if number % _PAUSE_EVERY == 0:
                await asyncio.sleep(0)
            if not about.concerns(parse_entry(core.log.entry(index))):
                continue
            told += 1
            if told > MAX_ENTRIES:
                continue
            found = core.gate.receipt_of(index, note)
            yield {
                "index": index,
                "entry": base64.b64encode(found.entry).decode("ascii"),
                "proof": base64.b64encode(found.receipt).decode("ascii"),
            }
        if told > MAX_ENTRIES:
            yield {"left_out": told - MAX_ENTRIES}


class _About:
    """Tells which entries belong to a job's story; requests are followed from the entry that made them."""

    def __init__(self, core: Core, row: Job) -> None:
        rows = {each.id: each for each in core.catalog.list()}
        self._job = row
        self._made = {each.id for each in rows.values() if each.job == row.id}
        self._requests: set[str] = set()
        self._before = set()
        waiting = [row.config, *row.corpora, *(up for name in self._made for up in rows[name].parents)]
        while waiting:
            if (name := waiting.pop()) in rows and name not in self._made:
                found = rows.pop(name)
                self._before.add(found.log_index)
                waiting += found.parents

    def places(self, end: int) -> Iterator[int]:
        """Yield the indexes to look at: where the lineage was created, then all since the job began."""
        yield from sorted(index for index in self._before if index < self._job.log_index)
        yield from range(self._job.log_index, end)

    def concerns(self, entry: Entry) -> bool:
        """Say whether an entry belongs; to be asked in the log's order."""
        if entry.seq in self._before:
            return True
        if entry.kind == "decision" and entry.action in _LOOKING:
            return False
        context, job = entry.context, self._job.id
        request = str(context.get("request", ""))
        if entry.resource.partition(":")[2] in self._made or _names(context, self._made):
            self._requests |= {request} - {""}
            return True
        about_job = context.get("job") == job or entry.principal == f"Job:{job}"
        return about_job or entry.resource == f"JobRecord:{job}" or request in self._requests


def _names(context: Mapping[str, object], made: set[str]) -> bool:
    objects = context.get("objects")
    return isinstance(objects, list | tuple) and any(each in made for each in objects)


def _kept(core: Core, row: Job) -> Iterator[dict[str, JSON]]:
    """Return what is left of a job's events after a restart, numbered anew."""
    told: list[dict[str, JSON]] = [
        {"kind": "evaluated", "step": step, "bits_per_byte": bits}
        for step, bits in sorted(Figures(core, row.id).by_step.items())
    ]
    told.append({"kind": row.state, "step": row.step, "reason": row.reason or None})
    for number, event in enumerate(told):
        yield {"seq": number + 1, "steps": row.steps, "elapsed_s": 0.0, **event}


def _told(person: Entity, labels: Collection[str], event: Mapping[str, JSON]) -> Answer:
    """Return an event as this person may know it: without the labels, that a job runs, and not how well."""
    known = carries(person, labels)
    return {
        "event": event_json({name: each for name, each in event.items() if known or name not in _MEASURED})
    }


def event_json(event: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return an event as the interface's type Event, absent figures as null."""
    return {**dict.fromkeys(_FIGURES), **event}
