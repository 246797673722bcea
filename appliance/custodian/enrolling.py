"""What a change of the officers would make of them: computed and checked before anybody signs or logs it.

A change is the options of a request, word for word: `change` is `add`, with a `person`, a `key` as in their
`.pub` file and the `roles` they hold beside that of officer, or `revoke`, with a `person`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.errors import UsageError
from appliance.ledger import OFFICER, Enrolment
from policy.allowed_signers import parse_allowed_signers, with_officer, without_officer
from policy.approvals import NAMESPACE
from policy.quorum import ROLE, Quorums, demand_reachable

ADD = frozenset({"change", "person", "key", "roles"})
REVOKE = frozenset({"change", "person"})


@dataclass(frozen=True, slots=True)
class Changed:
    """The officers after a change: the allowed-signers text, and everybody's roles by name."""

    text: str
    roles: Mapping[str, tuple[str, ...]]


def changed(text: str, enrolment: Enrolment, quorums: Quorums, options: Mapping[str, str]) -> Changed:
    """Return the officers after a change of `text`; raises UsageError, or Malformed.

    Refused is what would leave fewer people than a quorum asks for: then nothing could be approved any more,
    not even another officer.
    """
    person = options["person"]
    if options["change"] == "add":
        after = Changed(
            with_officer(text, person, options["key"], NAMESPACE), _added(enrolment, person, options["roles"])
        )
    elif options["change"] == "revoke":
        after = Changed(without_officer(text, person), _without(enrolment, person))
    else:
        raise UsageError(f"expected a change of add or revoke, found {options['change'][:40]!r}")
    listed = {signer.person for signer in parse_allowed_signers(after.text)}
    held = {name: roles for name, roles in after.roles.items() if OFFICER in roles and name in listed}
    demand_reachable(quorums, held)
    return after


def _added(enrolment: Enrolment, person: str, roles: str) -> dict[str, tuple[str, ...]]:
    more = [role for role in roles.split(",") if role]
    for role in more:
        if not ROLE.fullmatch(role) or role == "operator":
            raise UsageError(f"expected roles such as data-owner,security-officer, found {role[:40]!r}")
    held = enrolment.roles.get(person, ())
    return {**enrolment.roles, person: tuple(sorted({*held, OFFICER, *more}))}


def _without(enrolment: Enrolment, person: str) -> dict[str, tuple[str, ...]]:
    """Take every role of an officer's from a person; that of an operator, which comes with a uid, stays."""
    kept = tuple(role for role in enrolment.roles.get(person, ()) if role == "operator")
    others = {name: held for name, held in enrolment.roles.items() if name != person}
    return {**others, person: kept} if kept else others
