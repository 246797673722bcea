"""Requests and approvals: what is asked for, who signed it, and whether it was used.

The catalog keeps the documents and signatures; each is verified again whenever it is counted, so a catalog
that was edited approves nothing. A request is used once: its use is marked before the export begins.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.age import parse_recipient
from appliance.catalog import Approval as ApprovalRow
from appliance.catalog import ApprovalRequest as RequestRow
from appliance.catalog import Object
from appliance.catalog.catalog import utc_now
from appliance.custodian.core import Core
from appliance.errors import (
    AlreadyExists,
    IntegrityError,
    PolicyRefused,
    ReplayRefused,
    UnknownObject,
    UsageError,
)
from appliance.gate import NamedObject, Thing
from appliance.home import read_officers
from audit.entry import Entry, parse_entry
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
from policy.model import Entity

NEEDED = 2
MADE = "request-made"
USED = "request-used"
MAX_VALID_HOURS = 24 * 14


@dataclass(frozen=True, slots=True)
class Made:
    """A new request: its id and the text that officers sign as it is."""

    id: str
    document: str


@dataclass(frozen=True, slots=True)
class Taken:
    """An approval that counts now: whose it is, and how many people have approved."""

    person: str
    approvals: int


@dataclass(frozen=True, slots=True)
class Approved:
    """A request that may be used: its document, its approvals, its object."""

    request: ApprovalRequest
    approvals: tuple[Approval, ...]
    weights: Object


def make_request(
    core: Core, person: Entity, *, action: str, model: str, recipient: str, reason: str, valid_hours: int
) -> Made:
    """Make and log the canonical request document for one export; raises UsageError."""
    if action != "export":
        raise UsageError(f"expected `export` as the action to request, found {action[:40]!r}")
    if not 1 <= valid_hours <= MAX_VALID_HOURS:
        raise UsageError(f"expected a request valid for 1 to {MAX_VALID_HOURS} hours, found {valid_hours}")
    parse_recipient(recipient)
    found = core.gate.request(person, "request", NamedObject("weights", model)).object
    assert found is not None  # noqa: S101  a permitted object was resolved
    expires = datetime.now(UTC) + timedelta(hours=valid_hours)
    request = ApprovalRequest(
        log_origin=core.facts.origin,
        nonce=os.urandom(16).hex(),
        requester=person.id,
        action=action,
        objects=(found.id,),
        recipients=(recipient,),
        options={"model": f"{found.name} version {found.version}"},
        reason=reason,
        policy_set=core.engine.digest,
        expires=expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        purpose="model export",
    )
    document = request.encode()
    committed = core.gate.outcome(
        MADE,
        f"Person:{person.id}",
        "request",
        f"Object:{found.id}",
        {"request": request.id, "action": action, "expires": request.expires, "reason": reason},
    )
    row = RequestRow(request.id, document, person.id, utc_now(), committed.index)
    core.catalog.add_request(row)
    return Made(request.id, document.decode("ascii"))


def take_approval(core: Core, document: str, signature: str) -> Taken:
    """Verify one officer's signature over a request made here, decide, log and keep it."""
    data = document.encode("ascii", "strict") if document.isascii() else b""
    request = parse_request(data)
    _known(core, request.id, data)
    check_current(request, log_origin=core.facts.origin, policy_set=core.engine.digest, now=datetime.now(UTC))
    approval = verify_approval(signature, data, _signers(core))
    if approval.person in {row.person for row in core.catalog.approvals(request.id)}:
        raise AlreadyExists(f"{approval.person} has approved this request already: another officer must")
    officer = Entity("Person", approval.person, {"roles": core.facts.roles.get(approval.person, ())})
    decided = core.gate.request(officer, "approve", Thing(core.appliance()), {"request": request.id})
    core.gate.outcome(
        "approved",
        f"Person:{approval.person}",
        "approve",
        f"Request:{request.id}",
        {"request": request.id, "key": approval.key_fingerprint, "decision": decided.grant.index},
    )
    row = ApprovalRow(request.id, approval.person, "officer", signature, decided.grant.index)
    core.catalog.add_approval(row)
    return Taken(approval.person, count_distinct(_verified(core, request, data), request.requester))


def approved_request(core: Core, given: str, model: str, recipient: str) -> Approved:
    """Return the unused request that `given` (an id or a document) names, for this model and recipient.

    Raises UnknownObject, ReplayRefused, PolicyRefused, or what the verification of an approval raises. How
    many approvals are enough is the rules' to say.
    """
    name = (
        parse_request(given.encode("ascii", "replace")).id
        if given.lstrip().startswith("{")
        else given.strip()
    )
    row = core.catalog.request(name)
    request = parse_request(row.document)
    if row.state != "open":
        raise ReplayRefused(
            f"request {name[:16]} was used already: each approval counts for one export; ask anew"
        )
    _demand_unused(core, row)
    check_current(request, log_origin=core.facts.origin, policy_set=core.engine.digest, now=datetime.now(UTC))
    weights = core.catalog.get(request.objects[0])
    if weights.name != model or request.recipients != (recipient,) or request.action != "export":
        message = (
            f"request {name[:16]} is for the export of {weights.name} to {request.recipients[0][:20]}…, "
            f"found {model} to {recipient[:20]}…: ask for what you mean to export"
        )
        raise PolicyRefused(message)
    return Approved(request, tuple(_verified(core, request, row.document)), weights)


def _demand_unused(core: Core, row: RequestRow) -> None:
    """Ask the log whether a request was used: the catalog's word for it could have been set back."""
    made = parse_entry(core.log.entry(row.log_index))
    if made.kind != MADE or made.context.get("request") != row.id or request_id(row.document) != row.id:
        raise IntegrityError(
            f"request {row.id[:16]}: log entry {row.log_index} made no such document; catalog.db was "
            "changed: restore it from a backup"
        )
    for entry in core.log.entries(row.log_index + 1):
        if row.id.encode("ascii") in entry and _uses(parse_entry(entry), row.id):
            raise ReplayRefused(
                f"request {row.id[:16]} was used already, says the log: each approval counts for one export; "
                "ask anew"
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
    return list(parse_allowed_signers(read_officers(core.home, core.facts)))


def _verified(core: Core, request: ApprovalRequest, document: bytes) -> list[Approval]:
    """Verify every kept approval anew: the catalog is not believed."""
    signers = _signers(core)
    officers = {name for name, roles in core.facts.roles.items() if "officer" in roles}
    found = [verify_approval(row.signature, document, signers) for row in core.catalog.approvals(request.id)]
    return [approval for approval in found if approval.person in officers]
