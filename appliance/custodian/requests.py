"""What officers can be asked for, and the one canonical document that asks for it.

Guarantees to whoever carries something out that a request names exactly what it is for: the `Subject` of an
action is made here, from the catalog's rows, both when a request is made and when it is used, and the two
must be equal. Options are words that officers read on their screen, such as an object's name beside its id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from appliance import __version__
from appliance.age import parse_recipient
from appliance.bundle.floor import check_moment
from appliance.catalog import ApprovalRequest as RequestRow
from appliance.catalog import Object
from appliance.catalog.catalog import utc_now
from appliance.custodian.core import Core
from appliance.custodian.enrolling import ADD, REVOKE, changed
from appliance.custodian.metrics import weights_of
from appliance.errors import UnknownObject, UsageError
from appliance.export.form import Form
from appliance.gate import NamedObject, Resource, Thing
from appliance.home import read_officers
from appliance.limits import BUDGET, QUORUM
from appliance.release.version import check_floor
from policy.approvals import ApprovalRequest
from policy.model import Entity

MADE = "request-made"
MAX_VALID_HOURS = 24 * 14
# What `configure` may change by request, and the options that each setting binds.
SETTINGS: Mapping[str, tuple[frozenset[str], ...]] = {
    "policy": (frozenset({"policy_set"}),),
    "officers": (ADD, REVOKE),
    "clock": (frozenset({"floor"}),),
    "limits": (QUORUM, BUDGET),
    "release": (frozenset({"floor"}),),
}


@dataclass(frozen=True, slots=True)
class Made:
    """A new request: its id and the text that officers sign as it is."""

    id: str
    document: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants to have requested, as it came; nothing of it is believed."""

    action: str
    resources: tuple[str, ...]
    recipients: tuple[str, ...]
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Subject:
    """What one request is for: the resource that the gate decides on, and what the document binds."""

    action: str
    resource: Resource
    purpose: str
    objects: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def is_of(self, request: ApprovalRequest) -> bool:
        """Say whether a request is for exactly this."""
        bound = (request.action, request.objects, request.recipients, dict(request.options))
        return bound == (self.action, self.objects, self.recipients, dict(self.options))


def export_of(weights: Object, recipient: str, form: Form | None = None) -> Subject:
    """Return the subject of exporting a model to one recipient, whole unless a form says less."""
    options = {"model": f"{weights.name} version {weights.version}", **(form or Form()).options}
    return Subject("export", weights, "model export", (weights.id,), (recipient,), options)


def metrics_export_of(weights: Object, job: str, recipient: str) -> Subject:
    """Return the subject of exporting the figures of the job that made these weights, and nothing else."""
    options = {"content": "metrics", "job": job, "model": f"{weights.name} version {weights.version}"}
    return Subject("export", weights, "metrics export", (weights.id,), (recipient,), options)


def shred_of(row: Object) -> Subject:
    """Return the subject of shredding one object."""
    options = {"object": f"{row.kind}/{row.name} version {row.version}"}
    return Subject("shred", row, "shred an object", (row.id,), options=options)


def break_glass_of(core: Core) -> Subject:
    """Return the subject of letting one job start although the log is long unwitnessed."""
    return Subject("break-glass", Thing(core.appliance()), "break glass for one job")


def configure_of(core: Core, setting: str, **options: str) -> Subject:
    """Return the subject of changing one setting of the appliance; raises UsageError for an unknown one."""
    if options.keys() not in SETTINGS.get(setting, ()):
        known = "; ".join(
            f"{name}: {', '.join(sorted(each))}" for name, forms in SETTINGS.items() for each in forms
        )
        raise UsageError(f"expected a setting with its options ({known}), found {setting[:40]!r}")
    bound = {"setting": setting, **options}
    return Subject("configure", Thing(core.appliance()), f"change {setting}", options=bound)


def make_request(core: Core, person: Entity, asked: Asked, *, reason: str, valid_hours: int) -> Made:
    """Decide on, make and log the canonical request document; raises UsageError, UnknownObject."""
    if not 1 <= valid_hours <= MAX_VALID_HOURS:
        raise UsageError(f"expected a request valid for 1 to {MAX_VALID_HOURS} hours, found {valid_hours}")
    subject = _subject(core, person, asked)
    expires = core.now() + timedelta(hours=valid_hours)
    request = ApprovalRequest(
        log_origin=core.facts.origin,
        nonce=os.urandom(16).hex(),
        requester=person.id,
        action=subject.action,
        objects=subject.objects,
        recipients=subject.recipients,
        options=subject.options,
        reason=reason,
        policy_set=core.engine.digest,
        expires=expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        purpose=subject.purpose,
    )
    document = request.encode()
    resource = subject.resource
    committed = core.gate.outcome(
        MADE,
        f"Person:{person.id}",
        "request",
        f"Object:{resource.id}" if isinstance(resource, Object) else f"Appliance:{core.facts.origin}",
        {
            "request": request.id,
            "action": request.action,
            "options": dict(request.options),
            "expires": request.expires,
            "reason": reason,
        },
    )
    core.catalog.add_request(RequestRow(request.id, document, person.id, utc_now(), committed.index))
    return Made(request.id, document.decode("ascii"))


def _subject(core: Core, person: Entity, asked: Asked) -> Subject:
    """Resolve what is asked for and have the gate decide on asking for it."""
    if asked.action == "export":
        name, recipient = _only(asked.resources, "model"), _only(asked.recipients, "recipient")
        parse_recipient(recipient)
        if asked.options.get("content") == "metrics":
            row = _permitted(core, person, weights_of(core, name))
            return metrics_export_of(row, name, recipient)
        form = Form.of(asked.options)
        return export_of(_permitted(core, person, NamedObject("weights", name)), recipient, form)
    if asked.recipients:
        raise UsageError(f"expected no recipient of a request to {asked.action[:40]}, found one")
    if asked.action == "shred":
        return shred_of(_permitted(core, person, named_object(core, _only(asked.resources, "object"))))
    if asked.action == "break-glass":
        subject = break_glass_of(core)
    elif asked.action == "configure":
        given = dict(asked.options)
        subject = configure_of(core, given.pop("setting", ""), **given)
        _demand_possible(core, subject.options)
    else:
        raise UsageError(
            f"expected a request to export, shred, break-glass or configure, found {asked.action[:40]!r}"
        )
    if asked.resources:
        raise UsageError(f"expected no object of a request to {asked.action}, found {len(asked.resources)}")
    core.gate.request(person, "request", subject.resource)
    return subject


def _demand_possible(core: Core, options: Mapping[str, str]) -> None:
    """Refuse to ask officers for what could not be carried out; raises UsageError, Malformed."""
    if options["setting"] == "clock":
        check_moment(options["floor"])
    if options["setting"] == "release":
        check_floor(options["floor"], core.ledger.release_floor, __version__)
    if options["setting"] == "officers":
        enrolment = core.ledger.enrolment
        text = read_officers(core.home, enrolment.officers_sha256)
        changed(text, enrolment, core.ledger.limits.quorums, options)
    if options["setting"] == "limits":
        change = {name: value for name, value in options.items() if name != "setting"}
        core.ledger.limits.changed(change, core.ledger.enrolment.officers())


def named_object(core: Core, text: str) -> NamedObject | Object:
    """Read what a person calls an object: its id, or KIND/NAME for the newest version, or KIND/NAME@VERSION.

    Raises UsageError for another form, UnknownObject where an id or a version is not there.
    """
    kind, slash, rest = text.partition("/")
    if not slash:
        return core.catalog.get(text)
    name, at, version = rest.partition("@")
    if not at:
        return NamedObject(kind, name)
    if not (version.isascii() and version.isdecimal()) or len(version) > 9:
        raise UsageError(f"expected an object as KIND/NAME@VERSION, found {text[:80]!r}")
    row = core.catalog.find(kind, name, int(version))
    if row is None:
        raise UnknownObject(f"there is no {kind} named {name} in version {version}: see `appliance objects`")
    return row


def _permitted(core: Core, person: Entity, resource: NamedObject | Object) -> Object:
    found = core.gate.request(person, "request", resource).object
    assert found is not None  # noqa: S101  a permitted object was resolved
    return found


def _only(given: tuple[str, ...], what: str) -> str:
    if len(given) != 1:
        raise UsageError(f"expected one {what} in a request, found {len(given)}")
    return given[0]
