"""The reference monitor: no receipt, no key.

`Gate.request` is the only way to a `Grant`, and a `Grant` the only way to an object key. In order:

1. the resource is resolved; what is unknown, or differs from the log entry that created it, is denied,
2. the rules are asked; whatever is not a plain permit is denied,
3. the decision, allow or deny, is appended to the log, which returns only when it is durable,
4. then, and only for an allow, a `Grant` with the log index and the receipt is made; where the action
   releases a key it is entered in the live table, from which it can be taken once.

If the log cannot be written nothing is granted: the append raises and no step after it runs. Source of the
order: the reference monitor of Anderson (1972), with the audit record moved before the access.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from appliance.allowance import Allowance
from appliance.catalog import Catalog, Object
from appliance.catalog.database import REBUILD
from appliance.errors import (
    ApplianceError,
    IntegrityError,
    NotIsolated,
    PolicyRefused,
    SealedError,
    UnknownObject,
)
from appliance.grants import Grant, LiveGrants
from appliance.inventory import CREATED
from audit.entry import JSON, Record, parse_entry
from audit.entry import Decision as LoggedDecision
from audit.errors import AuditError
from audit.log import Committed, Log
from policy.engine import Engine
from policy.explain import next_step
from policy.model import Decision, Entity, Request
from policy.replay import JUDGED

# A lease: at its end the custodian ends the job, which resumes from its checkpoint under new decisions.
LEASE_S = 24 * 3600.0
KEY_ACTIONS = frozenset(
    {"use", "verify", "open", "rotate"}
)  # other decisions start or change something, and open nothing

# Denials that are not about the person or the object: what must be mended first, as the exit code tells it.
# By the invariants' codes, which hold whatever rules are in force; the first that applies is told.
_STATES: Mapping[str, tuple[type[ApplianceError], str]] = {
    "catalog-damaged": (IntegrityError, REBUILD),
    "catalog-names-no-entry": (IntegrityError, f"catalog.db was changed: {REBUILD}"),
    "catalog-differs-from-log": (IntegrityError, f"catalog.db was changed: {REBUILD}"),
    "egress-differs-from-log": (IntegrityError, "restart the daemon, which counts anew from the log"),
    "invariant:not-isolated": (NotIsolated, "`appliance doctor` names what isolates this host"),
    "forbidden-by:witnessing-is-overdue": (
        PolicyRefused,
        "have the log witnessed, `appliance audit challenge`, or free one job, `appliance audit break-glass`",
    ),
    "invariant:sealed": (SealedError, "open the vault with `appliance unseal`"),
}


@dataclass(frozen=True, slots=True)
class NamedObject:
    """The newest published object of this kind and name."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class StagedObject:
    """An object that a worker has just sealed and nobody has verified yet."""

    id: str
    kind: str
    name: str
    job: str


@dataclass(frozen=True, slots=True)
class Thing:
    """Anything that is not an object: the appliance itself, a job, a bundle."""

    entity: Entity


Resource = NamedObject | StagedObject | Object | Thing


@dataclass(frozen=True, slots=True)
class Lack:
    """Something that the caller found missing, whatever the rules say: its code, and what would mend it."""

    reason: str
    next_step: str


@dataclass(frozen=True, slots=True)
class World:
    """Facts about the appliance that every decision may depend on."""

    profile: str
    isolated: bool
    sealed: bool
    witnesses: int
    unwitnessed_entries: int
    unwitnessed_age_s: int
    witnessed_once: bool
    custody: str
    log_custody: str
    since_boot_s: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """A logged allow: the grant, the resolved object where there is one, and the entry's place in the log."""

    grant: Grant
    object: Object | None
    committed: Committed


_WORLD = tuple(each.name for each in fields(World))  # `asdict` copies deeply, for 10 µs a decision


class Gate:
    """Judges, logs, and only then grants."""

    def __init__(
        self,
        log: Log,
        engine: Engine,
        catalog: Catalog,
        live: LiveGrants,
        *,
        world: Callable[[], World],
        monotonic: Callable[[], float],
        newest: Callable[[str, str], str | None],
        allowance: Allowance | None = None,
    ) -> None:
        """Watch over one appliance; `newest` gives the id that the log says a kind and name have now."""
        self._log = log
        self._engine = engine
        self._catalog = catalog
        self._live = live
        self._world = world
        self._monotonic = monotonic
        self._newest = newest
        self._allowance = allowance or Allowance()

    def request(
        self,
        principal: Entity,
        action: str,
        resource: Resource,
        context: Mapping[str, JSON] | None = None,
        *,
        job: str = "",
        named: Sequence[str] = (),
        lacks: Sequence[Lack] = (),
    ) -> Allowed:
        """Judge one access and log the judgement; return the grant.

        `context` adds facts to the appliance's own; `named` lists further resources that the entry records.
        Each of `lacks` denies, beside whatever the rules say; a caller can only take away, never permit.
        A denial, once it is logged, raises UnknownObject, IntegrityError (the catalog is not what the log
        says), NotIsolated, SealedError, or else PolicyRefused. Where the entry cannot be made durable the
        log's LogUnavailable is raised.
        """
        # The world's own facts come last: no caller can say that the host is isolated.
        facts = {**(context or {}), **self.facts(action, job)}
        known, entity, problem = self._resolve(resource)
        if named and known is not None and not problem:
            entity, problem = self._with_named(known, entity, named)
        if problem:
            decision = Decision(allow=False, policies=(), policy_set=self._engine.digest, reasons=(problem,))
        else:
            decision = self._engine.decide(Request(principal, action, entity, facts))
        if lacks:
            reasons = (*decision.reasons, *(lack.reason for lack in lacks))
            decision = replace(decision, allow=False, reasons=reasons)
        put_to_rules = not problem and not lacks
        committed = self._record(
            Request(principal, action, entity, facts), decision, job, named, judged=put_to_rules
        )
        if not decision.allow:
            raise _refusal(principal, action, entity, decision, committed.index, lacks)
        if people := self._allowance.spend(action, job):
            self._live.rest(job, people)
        grant = Grant(
            index=committed.index,
            receipt=committed.receipt,
            entry=committed.entry,
            principal=f"{principal.type}:{principal.id}",
            action=action,
            object_id=entity.id,
            job=job,
            deadline=self._monotonic() + LEASE_S,
        )
        if action in KEY_ACTIONS:
            self._live.issue(grant)
        return Allowed(grant, known, committed)

    def facts(self, action: str, job: str = "") -> dict[str, JSON]:
        """Return what is stated about the appliance with every question."""
        world = self._world()
        return {
            **{name: getattr(world, name) for name in _WORLD},
            "break_glass": self._allowance.lifts(action, job),
        }

    def entity_of(self, resource: Resource) -> Entity:
        """Return a resource as the rules see it; nothing is decided or logged by that."""
        return self._resolve(resource)[1]

    def adopt(self, engine: Engine) -> None:
        """Judge by another set of rules from here on."""
        self._engine = engine

    def outcome(
        self,
        kind: str,
        principal: str,
        action: str,
        resource: str,
        context: Mapping[str, JSON],
        secret: Mapping[str, JSON] | None = None,
    ) -> Committed:
        """Append what came of a decision, or an event; `secret` values enter as commitments."""
        record = Record(
            kind=kind,
            principal=principal,
            action=action,
            resource=resource,
            context={**context, "profile": self._world().profile},
            decision=None,
            secret=dict(secret or {}),
        )
        return self._log.append([record])[0]

    def receipt_of(self, index: int, under: bytes | None = None) -> Committed:
        """Return an entry with a fresh receipt, under the newest tree head or an older one's note."""
        return Committed(index, self._log.entry(index), self._log.receipt(index, under))

    def _resolve(self, resource: Resource) -> tuple[Object | None, Entity, str]:
        if isinstance(resource, Thing):
            return None, resource.entity, ""
        if isinstance(resource, StagedObject):
            entity = _object_entity(resource.id, resource.kind, resource.name, "staged", ())
            return None, entity, "already-published" if self._is_published(resource.id) else ""
        row: Object | None = resource if isinstance(resource, Object) else None
        if isinstance(resource, NamedObject):
            unknown = Entity("Object", f"{resource.kind}/{resource.name}", {}, known=False)
            newest = self._newest(resource.kind, resource.name)
            try:
                row = self._catalog.find(resource.kind, resource.name)
            except IntegrityError:
                return None, unknown, "catalog-damaged"
            # A row that was deleted must not make the version before it the newest again.
            if (None if row is None else row.id) != newest:
                return None, unknown, "catalog-differs-from-log"
            if row is None:
                return None, unknown, "unknown-object"
        assert row is not None  # noqa: S101  narrows the union for the type checker
        entity = _object_entity(row.id, row.kind, row.name, "ready", row.compartments)
        return row, entity, _end_of(row) or self._differs(row)

    def _with_named(self, known: Object, entity: Entity, named: Sequence[str]) -> tuple[Entity, str]:
        """Return a resource under the compartments of all that is named beside it too, and what is wrong."""
        rows = [known]
        for each in named:
            if each == known.id:
                continue
            try:
                rows.append(self._catalog.get(each))
            except UnknownObject:
                return entity, "unknown-object"
            except IntegrityError:
                return entity, "catalog-damaged"
            if problem := _end_of(rows[-1]) or self._differs(rows[-1]):
                return entity, problem
        labels = sorted({label for row in rows for label in row.compartments})
        return replace(entity, attrs={**entity.attrs, "compartments": labels}), ""

    def _is_published(self, object_id: str) -> bool:
        """Say whether an object is in the catalog: the right to verify it ended there, and `use` begins."""
        try:
            self._catalog.get(object_id)
        except UnknownObject:
            return False
        except IntegrityError:  # a damaged row is a row
            pass
        return True

    def _differs(self, row: Object) -> str:
        """Compare a catalog row with the entry that created it: the row is only a cache of the entry."""
        try:
            entry = parse_entry(self._log.entry(row.log_index))
        except AuditError:
            return "catalog-names-no-entry"
        said = entry.context
        same = (
            entry.kind == CREATED
            and said.get("object") == row.id
            and said.get("kind") == row.kind
            and said.get("name") == row.name
            and said.get("version") == row.version
            and said.get("payload_sha256") == row.sha256
            and said.get("size") == row.size
            and said.get("compartments") == list(row.compartments)
            and said.get("parents") == list(row.parents)
            and said.get("job") == row.job
            and (entry.time, "ready", {}) == (row.created, row.state, row.meta)
        )
        return "" if same else "catalog-differs-from-log"

    def _record(
        self, request: Request, decision: Decision, job: str, named: Sequence[str], *, judged: bool
    ) -> Committed:
        entity = request.resource
        context: dict[str, Any] = dict(request.context)
        if judged:  # what a later look needs to judge again
            context[JUDGED] = {
                "principal": dict(request.principal.attrs),
                "resource": dict(request.resource.attrs),
            }
        if job:
            context["job"] = job
        if named:
            context["named"] = list(named)
        if "name" in entity.attrs:
            context["object_name"] = f"{entity.attrs['kind']}/{entity.attrs['name']}"
        record = Record(
            kind="decision",
            principal=f"{request.principal.type}:{request.principal.id}",
            action=request.action,
            resource=f"{entity.type}:{entity.id}",
            context=context,
            decision=LoggedDecision(decision.allow, decision.policies, decision.policy_set, decision.reasons),
        )
        return self._log.append([record])[0]


def _end_of(row: Object) -> str:
    if row.state == "shredded":
        return "object-shredded"
    return "object-retired" if row.retired else ""


def _object_entity(object_id: str, kind: str, name: str, state: str, compartments: Sequence[str]) -> Entity:
    attrs = {"kind": kind, "name": name, "state": state, "compartments": tuple(compartments)}
    return Entity("Object", object_id, attrs)


def _refusal(
    principal: Entity, action: str, entity: Entity, decision: Decision, index: int, lacks: Sequence[Lack]
) -> Exception:
    what = (
        f"{entity.attrs['kind']} {entity.attrs['name']}"
        if "name" in entity.attrs
        else f"{entity.type} {entity.id}"
    )
    reasons = ", ".join(decision.reasons) or "no-rule-permits"
    if "unknown-object" in decision.reasons:
        named = entity.id.replace("/", " named ")
        return UnknownObject(f"{action}: there is no {named} (log entry {index}); see `appliance objects`")
    told = f"{principal.id} may not {action} {what}: {reasons} (log entry {index})"
    for reason, (error, step) in _STATES.items():
        if reason in decision.reasons:
            return error(f"{told}; {step}")
    # The invariants' steps are the plainer ones: they come after the rules' names.
    steps = [lack.next_step for lack in lacks] or [next_step(each) for each in reversed(decision.reasons)][:1]
    return PolicyRefused("; ".join((told, *dict.fromkeys(step for step in steps if step))))
