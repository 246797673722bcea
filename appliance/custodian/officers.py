"""Officers come and go by the word of the others, and what rested on one who goes ends.

In this order: the request is demanded → the new file is written beside the old one → decision → used → the
entry that names the new file → renamed into place → what rested on the person ends. The entry is what counts:
a crash before it leaves the old officers, one after it is made good at the next start (`settle_officers`).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from appliance.custodian.approvals import approved_request, spend
from appliance.custodian.core import Core
from appliance.custodian.enrolling import changed
from appliance.custodian.requests import configure_of
from appliance.errors import PolicyRefused
from appliance.home import Home, read_officers
from appliance.ledger import OFFICERS_CHANGED, Enrolment
from policy.allowed_signers import parse_allowed_signers
from policy.model import Entity

SETTING = "officers"


@dataclass(frozen=True, slots=True)
class Officer:
    """Somebody who may approve, with one of their keys."""

    person: str
    key_type: str
    fingerprint: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change did: whom it was about, and the jobs that rested on their approval and were ended."""

    person: str
    change: str
    ended: tuple[str, ...]


def list_officers(core: Core) -> tuple[Officer, ...]:
    """List the keys that count, in the order of the file; raises IntegrityError where it was exchanged."""
    enrolment = core.ledger.enrolment
    signers = parse_allowed_signers(read_officers(core.home, enrolment.officers_sha256))
    return tuple(
        Officer(signer.person, signer.key.type, signer.key.fingerprint, enrolment.roles[signer.person])
        for signer in signers
        if signer.person in enrolment.officers()
    )


def change_officers(core: Core, person: Entity, given: str) -> Outcome:
    """Carry out the change that the request `given` describes and officers approved."""
    request = approved_request(core, given).request
    options = dict(request.options)
    if options.pop("setting", None) != SETTING:
        raise PolicyRefused(f"request {request.id[:16]} is for no change of officers: ask for one")
    enrolment = core.ledger.enrolment
    text = read_officers(core.home, enrolment.officers_sha256)
    after = changed(text, enrolment, core.ledger.limits.quorums, options)
    data = after.text.encode("utf-8")
    _write(_next(core.home), data)
    spend(core, person, request.id, configure_of(core, SETTING, **options))
    core.gate.outcome(
        OFFICERS_CHANGED,
        f"Person:{person.id}",
        "configure",
        f"Person:{options['person']}",
        {
            **options,
            "request": request.id,
            "officers": after.text,
            "officers_sha256": hashlib.sha256(data).hexdigest(),
            "roles": dict(after.roles),
        },
    )
    _next(core.home).rename(core.home.officers)
    ended: tuple[str, ...] = ()
    if options["change"] == "revoke":
        core.allowance.take_back(options["person"])
        ended = core.live.end_of(options["person"])
    return Outcome(options["person"], options["change"], ended)


def settle_officers(home: Home, enrolment: Enrolment) -> None:
    """Finish a change that a crash cut off after its entry; raises IntegrityError for any other file."""
    following = _next(home)
    if following.exists():
        if hashlib.sha256(following.read_bytes()).hexdigest() == enrolment.officers_sha256:
            following.rename(home.officers)
        else:
            following.unlink()
    read_officers(home, enrolment.officers_sha256)


def _next(home: Home) -> Path:
    return home.officers.with_suffix(".next")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
