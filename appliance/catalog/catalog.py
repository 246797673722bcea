"""`Catalog`: the queries, typed on the way in and out. Each write is one durable transaction.

A damaged or foreign file raises IntegrityError when it is opened, a locked one Busy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.catalog.database import Database, Row
from appliance.catalog.rows import (
    Approval,
    ApprovalRequest,
    Checkpoint,
    Job,
    LastBundle,
    Object,
    Tombstone,
    VaultKey,
)
from appliance.catalog.schema import CARRIED_TABLES
from appliance.errors import AlreadyExists, IntegrityError, ReplayRefused, UnknownObject
from appliance.inventory import CREATED, SHREDDED, Event

_OBJECT = (
    "SELECT id, kind, name, version, size, sha256, log_index, created, compartments, state, job, meta "
    "FROM objects"
)
_JOB = "SELECT id, name, owner, config, log_index, created, state, step, steps, reason FROM jobs"
_REQUEST = "SELECT id, document, requester, created, log_index, state FROM requests"


def utc_now() -> str:
    """Return the wall clock as RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Catalog:
    """The appliance's memory of objects, jobs, requests and channels."""

    def __init__(self, path: Path, now: Callable[[], str] = utc_now) -> None:
        self._database = Database(path)
        self._now = now

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def backup(self, path: Path) -> None:
        """Copy the whole catalog, as it is now, into a new file."""
        self._database.backup(path)

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context in which several writes become one."""
        return self._database.transaction()

    # ---- objects ---------------------------------------------------------------------------------

    def add(self, row: Object) -> None:
        """Add an object and its parents; raises AlreadyExists, or UnknownObject for a parent not here."""
        with self.transaction():
            self._database.write(
                "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(row.id, row.kind, row.name, row.version, row.size, row.sha256, row.log_index, row.created),
                *(_json(list(row.compartments)), row.state, row.job, _json(dict(row.meta))),
            )
            for position, parent in enumerate(row.parents):
                self._database.write("INSERT INTO parents VALUES (?, ?, ?)", row.id, position, parent)

    def get(self, object_id: str) -> Object:
        """Return an object; raises UnknownObject."""
        for row in self._database.rows(f"{_OBJECT} WHERE id = ?", object_id):
            return self._object(row)
        raise UnknownObject(f"object {object_id[:80]}: expected it in the catalog, found no such id")

    def retire(self, object_id: str, log_index: int) -> None:
        """Record that an object's bytes leave the vault, as that entry says; raises UnknownObject."""
        meta = _json({"retired": log_index})
        if not self._database.write("UPDATE objects SET meta = ? WHERE id = ?", meta, object_id):
            self.get(object_id)

    def find(self, kind: str, name: str, version: int | None = None) -> Object | None:
        """Return an object by name, the newest that was not shredded unless a version is given, or None."""
        query = (
            f"{_OBJECT} WHERE kind = ? AND name = ? AND coalesce(version = ?, state <> 'shredded') "
            "ORDER BY version DESC"
        )
        for row in self._database.rows(f"{query} LIMIT 1", kind, name, version):
            return self._object(row)
        return None

    def list(self, kind: str | None = None) -> tuple[Object, ...]:
        """Return all objects, or those of one kind, in the order of their log entries."""
        found = self._database.rows(f"{_OBJECT} WHERE ? IS NULL OR kind = ? ORDER BY log_index", kind, kind)
        return tuple(self._object(row) for row in found)

    def shred(self, object_id: str, log_index: int, time: str) -> bool:
        """Leave a tombstone of an object; returns False where one is there; raises UnknownObject."""
        with self.transaction():
            try:
                self._database.write("INSERT INTO tombstones VALUES (?, ?, ?)", object_id, log_index, time)
            except AlreadyExists:
                return False
            self._database.write("UPDATE objects SET state = 'shredded' WHERE id = ?", object_id)
        return True

    def tombstones(self) -> tuple[Tombstone, ...]:
        """Return what is left of shredded objects, in the order of their log entries."""
        found = self._database.rows("SELECT object, log_index, time FROM tombstones ORDER BY log_index")
        return tuple(Tombstone(*row) for row in found)

    def add_vault_key(self, row: VaultKey) -> bool:
        """Record that a rotation of the vault's identity began or ended; False where that is known."""
        return bool(
            self._database.write(
                "INSERT INTO vault_keys VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                *(row.log_index, row.kind, row.recipient),
            )
        )

    def vault_keys(self) -> tuple[VaultKey, ...]:
        """Return the rotations of the vault's identity, in the order of their log entries."""
        found = self._database.rows("SELECT log_index, kind, recipient FROM vault_keys ORDER BY log_index")
        return tuple(VaultKey(*row) for row in found)

    def events(self) -> tuple[Event, ...]:
        """Return what the rows say happened in the vault, in the order of their log entries."""
        found = [
            (int(row[0]), Event(CREATED, tuple(row[1:])))
            for row in self._database.rows("SELECT log_index, id, kind, name, version FROM objects")
        ]
        found += [(row.log_index, Event(SHREDDED, (row.object,))) for row in self.tombstones()]
        found += [(row.log_index, Event(row.kind, (row.recipient,))) for row in self.vault_keys()]
        return tuple(event for _, event in sorted(found, key=lambda pair: pair[0]))

    def present(self) -> tuple[str, ...]:
        """Return the ids of all objects whose bytes should be in the vault."""
        found = self._database.rows("SELECT id FROM objects WHERE state <> 'shredded' AND meta = '{}'")
        return tuple(str(name) for (name,) in found)

    def _object(self, row: Row) -> Object:
        *head, compartments, state, job, meta = row
        query = "SELECT parent FROM parents WHERE child = ? ORDER BY position"
        parents = tuple(parent for (parent,) in self._database.rows(query, head[0]))
        return replace(
            Object(*head),
            compartments=_labels(compartments),
            parents=parents,
            state=state,
            job=job,
            meta=_mapping(meta),
        )

    # ---- jobs ------------------------------------------------------------------------------------

    def add_job(
        self,
        *,
        id: str,  # noqa: A002  the column's name
        name: str,
        owner: str,
        config: str,
        log_index: int,
        steps: int = 0,
    ) -> Job:
        """Add a queued job; raises AlreadyExists, or UnknownObject for a config that is not here."""
        job = Job(id, name, owner, config, log_index, self._now(), steps=steps)
        self._database.write(
            "INSERT INTO jobs (id, name, owner, config, log_index, created, state, step, steps, reason) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(job.id, job.name, job.owner, job.config, job.log_index, job.created),
            *(job.state, job.step, job.steps, job.reason),
        )
        return job

    def job(self, job_id: str) -> Job:
        """Return a job; raises UnknownObject."""
        for row in self._database.rows(f"{_JOB} WHERE id = ?", job_id):
            return self._job(row)
        raise UnknownObject(
            f"job {job_id[:80]}: expected it in the catalog, found none; see `appliance jobs`"
        )

    def jobs(self, state: str | None = None) -> tuple[Job, ...]:
        """Return all jobs, or those in one state, oldest first."""
        found = self._database.rows(f"{_JOB} WHERE ? IS NULL OR state = ? ORDER BY number", state, state)
        return tuple(self._job(row) for row in found)

    def set_job(
        self,
        job_id: str,
        *,
        state: str | None = None,
        step: int | None = None,
        steps: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Change what is given and keep the rest; raises UnknownObject."""
        changed = self._database.write(
            "UPDATE jobs SET state = coalesce(?, state), step = coalesce(?, step), "
            "steps = coalesce(?, steps), reason = coalesce(?, reason) WHERE id = ?",
            *(state, step, steps, reason, job_id),
        )
        if not changed:
            self.job(job_id)

    def add_checkpoint(self, job_id: str, step: int, weights: str, optimizer: str) -> None:
        """Record a saved state after `step` steps, which is then how far the job got.

        It takes the place of an earlier one of that step, which turned out damaged.
        """
        with self.transaction():
            self._database.write(
                "INSERT INTO checkpoints VALUES (?, ?, ?, ?) ON CONFLICT (job, step) DO UPDATE "
                "SET weights = excluded.weights, optimizer = excluded.optimizer",
                *(job_id, step, weights, optimizer),
            )
            self.set_job(job_id, step=step)

    def add_corpus(self, job_id: str, object_id: str) -> None:
        """Record an object that the job read as its corpus."""
        self._link(job_id, "corpus", object_id)

    def add_result(self, job_id: str, object_id: str) -> None:
        """Record an object that the job made."""
        self._link(job_id, "result", object_id)

    def _link(self, job_id: str, role: str, object_id: str) -> None:
        self._database.write(
            "INSERT INTO job_objects SELECT ?, ?, count(*), ? FROM job_objects WHERE job = ? AND role = ?",
            *(job_id, role, object_id, job_id, role),
        )

    def _job(self, row: Row) -> Job:
        query = (
            "SELECT object FROM job_objects JOIN objects ON objects.id = object "
            "WHERE job_objects.job = ? AND role = ? AND meta = '{}' ORDER BY position"
        )
        corpora, results = (
            tuple(found for (found,) in self._database.rows(query, row[0], role))
            for role in ("corpus", "result")
        )
        saved = (
            "SELECT step, weights, optimizer, objects.meta <> '{}' FROM checkpoints "
            "JOIN objects ON objects.id = weights WHERE checkpoints.job = ? ORDER BY step"
        )
        checkpoints = tuple(
            Checkpoint(step, weights, optimizer, bool(retired))
            for step, weights, optimizer, retired in self._database.rows(saved, row[0])
        )
        return replace(Job(*row), corpora=corpora, results=results, checkpoints=checkpoints)

    # ---- requests and approvals ------------------------------------------------------------------

    def add_request(self, row: ApprovalRequest) -> None:
        """Add a request; raises AlreadyExists."""
        self._database.write(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?)",
            *(row.id, row.document, row.requester, row.created, row.log_index, row.state),
        )

    def request(self, request_id: str) -> ApprovalRequest:
        """Return a request; raises UnknownObject."""
        for row in self._database.rows(f"{_REQUEST} WHERE id = ?", request_id):
            return ApprovalRequest(*row)
        raise UnknownObject(f"request {request_id[:80]}: expected it in the catalog, found none")

    def use_request(self, request_id: str) -> None:
        """Use a request up; raises ReplayRefused when it was used before, UnknownObject."""
        with self.transaction():
            changed = self._database.write(
                "UPDATE requests SET state = 'used' WHERE id = ? AND state = 'open'", request_id
            )
            if not changed:
                found = self.request(request_id).state
                raise ReplayRefused(
                    f"request {request_id}: expected it open, found it {found}; approvals count once, "
                    "ask again"
                )

    def add_approval(self, row: Approval) -> None:
        """Add an approval; raises AlreadyExists for a second one by one person, UnknownObject."""
        self._database.write(
            "INSERT INTO approvals VALUES (?, ?, ?, ?, ?)",
            *(row.request, row.person, row.role, row.signature, row.log_index),
        )

    def approvals(self, request_id: str) -> tuple[Approval, ...]:
        """Return the approvals of a request, in the order of their log entries."""
        query = "SELECT request, person, role, signature, log_index FROM approvals WHERE request = ? "
        return tuple(Approval(*row) for row in self._database.rows(query + "ORDER BY log_index", request_id))

    # ---- channels, facts -------------------------------------------------------------------------

    def last_bundle(self, channel: str, role: str) -> LastBundle | None:
        """Return the newest bundle of a channel and role, None when none came yet."""
        query = "SELECT seq, digest, published FROM replay WHERE channel = ? AND role = ?"
        for seq, digest, published in self._database.rows(query, channel, role):
            return LastBundle(seq, digest, bool(published))
        return None

    def set_last_bundle(
        self, channel: str, role: str, seq: int, digest: str, *, published: bool = True
    ) -> None:
        """Move a channel forward; raises ReplayRefused unless `seq` grows (or repeats the same digest)."""
        with self.transaction():
            changed = self._database.write(
                "INSERT INTO replay VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (channel, role) DO UPDATE "
                "SET seq = ?3, digest = ?4, published = ?5 "
                "WHERE seq < ?3 OR (seq = ?3 AND digest = ?4)",
                *(channel, role, seq, digest, int(published)),
            )
            if not changed:
                last = self.last_bundle(channel, role)
                raise ReplayRefused(
                    f"channel {channel}: expected a number above {last and last.seq}, found {seq}"
                )

    def carry(self, old: Catalog) -> tuple[int, int]:
        """Take over from an older catalog what is here not yet and fits; returns how many rows did, and not.

        Objects, tombstones, vault keys and facts are not asked for: the log knows them.
        """
        carried = lost = 0
        for table in CARRIED_TABLES:
            try:
                rows = old._database.rows(f"SELECT * FROM {table}")  # noqa: S608  a constant; our own class
            except IntegrityError:
                lost += 1
                continue
            for row in rows:
                places = ", ".join("?" * len(row))
                try:
                    self._database.write(f"INSERT INTO {table} VALUES ({places})", *row)  # noqa: S608  likewise
                    carried += 1
                except AlreadyExists:
                    pass
                except (IntegrityError, UnknownObject):
                    lost += 1
        return carried, lost

    def charge(self, log_index: int, content: str, recipient: str, size_bytes: int) -> bool:
        """Record that something left; False where that entry is known."""
        changed = self._database.write(
            "INSERT INTO egress VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            *(log_index, content, recipient, size_bytes),
        )
        return bool(changed)

    def recharge(self, rows: Iterable[tuple[int, str, str, int]]) -> None:
        """Replace all that was recorded of what left."""
        with self.transaction():
            self._database.write("DELETE FROM egress")
            for row in rows:
                self.charge(*row)

    def charges(self) -> tuple[tuple[int, str, str, int], ...]:
        """Return what left: log index, content, recipient and bytes, oldest first."""
        found = self._database.rows(
            "SELECT log_index, content, recipient, bytes FROM egress ORDER BY log_index"
        )
        return tuple((int(row[0]), str(row[1]), str(row[2]), int(row[3])) for row in found)

    def meta(self, key: str) -> str | None:
        """Return a stored fact, None when it was never set."""
        for (value,) in self._database.rows("SELECT value FROM meta WHERE key = ?", key):
            return str(value)
        return None

    def set_meta(self, key: str, value: str) -> None:
        """Store a fact, in place of an older one."""
        self._database.write(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key,
            value,
        )


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _labels(text: str) -> tuple[str, ...]:
    labels = _parse(text)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise IntegrityError(f"catalog, compartments: expected a list of names, found {text[:80]!r}")
    return tuple(labels)


def _mapping(text: str) -> dict[str, Any]:
    value = _parse(text)
    if not isinstance(value, dict):
        raise IntegrityError(f"catalog, meta: expected an object, found {text[:80]!r}")
    return value


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"catalog: expected JSON, found {text[:80]!r}") from error
