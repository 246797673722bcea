"""Approvals: who signed a request, whether they are enough, and that each request is used once.

The catalog keeps the documents and signatures; each is verified again whenever it is counted, so a catalog
that was edited approves nothing. For whatever needs officers there are two ways in:

    spend(core, person, given, subject)      all at once: verified, decided, logged as used; then act
    demand_approved, then `decide`, `use`    where work lies between the decision and the first effect

`subject` is made by `appliance.custodian.requests`. How many approvals are enough is asked here and by the
rules: both must agree, and a request that lacks some is a logged denial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from appliance.catalog import Approval as ApprovalRow
from appliance.catalog import ApprovalRequest as RequestRow
from appliance.catalog.database import REBUILD
from appliance.catalog.entries import USED
from appliance.custodian.core import Core
from appliance.custodian.requests import MADE, Subject
from appliance.errors import (
    AlreadyExists,
    IntegrityError,
    PolicyRefused,
    ReplayRefused,
    UnknownObject,
)
from appliance.gate import Allowed, Lack, Thing
from appliance.home import read_officers
from audit.entry import JSON, Entry, parse_entry
from audit.errors import AuditError
from policy.allowed_signers import Signer, parse_allowed_signers
from policy.approvals import (
    Approval,
    ApprovalRequest,
    check_current,
    count_distinct,
    parse_request,
    request_id,
    verify_approval,
)
from policy.errors import NotEnrolled
from policy.model import Entity
from policy.quorum import Quorum, quorum_of


@dataclass(frozen=True, slots=True)
class Taken:
    """An approval that counts now: whose it is, and how the request stands with it."""

    person: str
    approved: Approved


@dataclass(frozen=True, slots=True)
class Approved:
    """A request that was not used yet, and who signed it; whether they are enough is decided apart."""

    request: ApprovalRequest
    approvals: tuple[Approval, ...]
    roles: Mapping[str, tuple[str, ...]]
    """Who approved, each once with their roles, the requester left out."""
    quorum: Quorum

    @property
    def people(self) -> tuple[str, ...]:
        """Who approved, sorted."""
        return tuple(sorted(self.roles))

    def facts(self) -> dict[str, JSON]:
        """Return what the rules may ask about the approvals."""
        return {
            "approvals": len(self.people),
            "approvers": self.people,
            "request": self.request.id,
            "requester": self.request.requester,
            "reason": self.request.reason,
        }

    def lacks(self) -> tuple[Lack, ...]:
        """Return what is missing until this may be used; empty when nothing is."""
        missing = self.quorum.missing(self.roles)
        step = f"more must sign request {self.request.id[:16]} and `appliance approve` it"
        return tuple(Lack(f"approvals:{what}", step) for what in missing)


def take_approval(core: Core, document: str, signature: str) -> Taken:
    """Verify one officer's signature over a request made here, decide, log and keep it."""
    data = document.encode("ascii", "strict") if document.isascii() else b""
    request = parse_request(data)
    _known(core, request.id, data)
    check_current(request, log_origin=core.facts.origin, policy_set=core.engine.digest, now=core.now())
    approval = verify_approval(signature, data, _signers(core))
    if approval.person in {row.person for row in core.catalog.approvals(request.id)}:
        raise AlreadyExists(f"{approval.person} has approved this request already: another officer must")
    decided = core.gate.request(
        core.officer(approval.person), "approve", Thing(core.appliance()), {"request": request.id}
    )
    core.gate.outcome(
        "approved",
        f"Person:{approval.person}",
        "approve",
        f"Request:{request.id}",
        {"request": request.id, "key": approval.key_fingerprint, "decision": decided.grant.index},
    )
    row = ApprovalRow(request.id, approval.person, "officer", signature, decided.grant.index)
    core.catalog.add_approval(row)
    return Taken(approval.person, _counted(core, request, data))


def approved_request(core: Core, given: str) -> Approved:
    """Return the unused request that `given` (an id or a document) names, its approvals verified anew.

    Raises UnknownObject, ReplayRefused, ApprovalRefused, ApprovalExpired, or what the verification of an
    approval raises.
    """
    text = given.strip()
    name = parse_request(given.encode("ascii", "replace")).id if text.startswith("{") else text
    row = core.catalog.request(name)
    request = parse_request(row.document)
    if row.state != "open":
        raise ReplayRefused(f"request {name[:16]} was used already: each approval counts once; ask anew")
    _demand_unused(core, row)
    check_current(request, log_origin=core.facts.origin, policy_set=core.engine.digest, now=core.now())
    return _counted(core, request, row.document)


def _counted(core: Core, request: ApprovalRequest, document: bytes) -> Approved:
    found = _verified(core, request, document)
    count_distinct(found, request.requester)
    roles = {each.person: held for each, held in found.items() if each.person != request.requester}
    return Approved(request, tuple(found), roles, quorum_of(core.ledger.limits.quorums, request.action))


def demand_approved(core: Core, given: str, subject: Subject) -> Approved:
    """Return the unused request that `given` names, which must be for exactly `subject`; PolicyRefused."""
    approved = approved_request(core, given)
    if not subject.is_of(approved.request):
        raise PolicyRefused(
            f"request {approved.request.id[:16]} is for {in_words(approved.request)}, found "
            f"{subject.purpose}: ask for what you mean"
        )
    return approved


def decide(
    core: Core,
    person: Entity,
    approved: Approved,
    subject: Subject,
    *,
    context: Mapping[str, JSON] | None = None,
    job: str = "",
    named: Sequence[str] = (),
    lacks: Sequence[Lack] = (),
) -> Allowed:
    """Have the gate decide on what was approved, with every approval as a fact; raises what it raises."""
    setting = subject.options.get("setting")
    facts: dict[str, JSON] = {
        **(context or {}),
        **approved.facts(),
        **({"setting": setting} if setting is not None else {}),
    }
    every = (*approved.lacks(), *lacks)
    allowed = core.gate.request(
        person, subject.action, subject.resource, facts, job=job, named=named, lacks=every
    )
    if job:
        core.live.rest(job, approved.people)
    return allowed


def use(core: Core, person: str, approved: Approved, decided: Allowed, job: str = "") -> None:
    """Mark a request as used, in the log and then in the catalog; from here on it has its effect.

    Raises ReplayRefused where somebody else used it since it was looked at.
    """
    request = approved.request
    if core.catalog.request(request.id).state != "open":
        raise ReplayRefused(f"request {request.id[:16]} was used meanwhile: each approval counts once")
    core.gate.outcome(
        USED,
        f"Person:{person}",
        request.action,
        f"Request:{request.id}",
        {
            "request": request.id,
            "decision": decided.grant.index,
            "people": approved.people,
            **({"job": job} if job else {}),
        },
    )
    core.catalog.use_request(request.id)


def spend(
    core: Core,
    person: Entity,
    given: str,
    subject: Subject,
    *,
    context: Mapping[str, JSON] | None = None,
    job: str = "",
    named: Sequence[str] = (),
) -> tuple[Approved, Allowed]:
    """Demand, decide on and use up the request that `given` names; the caller then does what it is for.

    Nothing waits in between, so that no second caller can slip in. Raises what `demand_approved`, `decide`
    and `use` raise; after an error the request may be used again, except where the log says it was used.
    """
    approved = demand_approved(core, given, subject)
    decided = decide(core, person, approved, subject, context=context, job=job, named=named)
    use(core, person.id, approved, decided, job)
    return approved, decided


def in_words(request: ApprovalRequest) -> str:
    """Say what a request is for, in an error message."""
    options = ", ".join(f"{name} {value}" for name, value in sorted(request.options.items()))
    recipients = ", ".join(f"{recipient[:20]}…" for recipient in request.recipients)
    return " ".join(part for part in (request.action, options, recipients and f"to {recipients}") if part)


def _demand_unused(core: Core, row: RequestRow) -> None:
    """Ask the log whether a request was used: the catalog's word for it could have been set back."""
    made = parse_entry(core.log.entry(row.log_index))
    if made.kind != MADE or made.context.get("request") != row.id or request_id(row.document) != row.id:
        raise IntegrityError(
            f"request {row.id[:16]}: log entry {row.log_index} made no such document; catalog.db was "
            f"changed: {REBUILD}"
        )
    for entry in core.log.entries(row.log_index + 1):
        if row.id.encode("ascii") in entry and _uses(parse_entry(entry), row.id):
            raise ReplayRefused(
                f"request {row.id[:16]} was used already, says the log: each approval counts once; ask anew"
            )


def _uses(entry: Entry, request: str) -> bool:
    return entry.kind == USED and entry.context.get("request") == request


def _known(core: Core, name: str, data: bytes) -> None:
    row = core.catalog.request(name)
    if row.document != data:
        raise UnknownObject(
            f"request {name[:16]} was not made here: make one with `appliance request export`"
        )
    if row.state != "open":
        raise ReplayRefused(f"request {name[:16]} was used already: ask anew")


def _signers(core: Core) -> list[Signer]:
    return list(parse_allowed_signers(read_officers(core.home, core.ledger.enrolment.officers_sha256)))


def _verified(core: Core, request: ApprovalRequest, document: bytes) -> dict[Approval, tuple[str, ...]]:
    """Verify every kept approval anew, each with its officer's roles: the catalog is not believed.

    One by a key that belongs to no officer any more is left out, and so is one from before a revocation.
    """
    signers, enrolment = _signers(core), core.ledger.enrolment
    found: dict[Approval, tuple[str, ...]] = {}
    for row in core.catalog.approvals(request.id):
        with suppress(NotEnrolled):
            approval = verify_approval(row.signature, document, signers)
            _demand_logged(core, row, approval.person)
            if enrolment.counts(approval.person, row.log_index):
                found[approval] = enrolment.roles[approval.person]
    return found


def _demand_logged(core: Core, row: ApprovalRow, person: str) -> None:
    """Hold a kept approval against the entry that allowed it, whose place says what it is older than."""
    try:
        entry = parse_entry(core.log.entry(row.log_index))
    except AuditError:
        entry = None
    if (
        entry is None
        or (entry.kind, entry.action, entry.principal) != ("decision", "approve", f"Person:{person}")
        or entry.context.get("request") != row.request
        or entry.decision is None
        or not entry.decision.allow
    ):
        raise IntegrityError(
            f"approval of request {row.request[:16]} by {person}: log entry {row.log_index} allowed no such "
            f"approval; catalog.db was changed: {REBUILD}"
        )
