"""The few promises that no set of rules may break, checked a second time and in another way.

`broken_invariants` knows nothing of Cedar, of the schema or of which rules are loaded: rules that were
replaced, mistyped or judged by a faulty engine still let nothing out that is forbidden here. A decision is an
allow only where the rules permit and this list is empty:

1. every request states profile, sealed and isolated, of the right type, and the profile is one of two;
2. while sealed, or in the isolated profile on a host that is not isolated: only looking, opening, closing,
   stopping and witnessing;
3. an export, shredding, breaking glass and a change of what decides (rules, officers, clock) are approved by
   two officers, two people other than the requester; an export is signed for the outside;
4. a job gets a key only for what the decision that started it named;
5. an object in quarantine, which nobody has verified yet, is for verifying only (or is about to be created);
6. nobody, and no job of theirs, gets at data of a compartment that they do not carry.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from policy.model import Request

PROFILES = frozenset({"development", "isolated"})
ALWAYS_POSSIBLE = frozenset({"status", "unseal", "seal", "stop", "witness"})
POSSIBLE_IN_QUARANTINE = frozenset({"verify", "create"})
NEEDS_OFFICERS = frozenset({"break-glass", "export", "shred"})
SETTINGS_THAT_DECIDE = frozenset({"policy", "officers", "people", "trust", "clock", "limits", "release"})
OFFICERS = 2

_LISTS = (list, tuple, set, frozenset)
_FACTS: Mapping[str, type] = {"profile": str, "sealed": bool, "isolated": bool}
_APPROVED: Mapping[str, type] = {"approvals": int, "requester": str}
_EXPORT: Mapping[str, type] = {"signed": bool}


def broken_invariants(request: Request) -> tuple[str, ...]:
    """Return a reason code for each promise that allowing `request` would break; empty when none."""
    if missing := missing_facts(request):
        return missing
    return _state(request) + _approved(request) + _keys(request)


def missing_facts(request: Request) -> tuple[str, ...]:
    """Name the facts that are absent or of another type; exact types, because True is also an int."""
    facts = dict(_FACTS)
    if _needs_officers(request):
        facts |= _APPROVED
    if request.action == "export":
        facts |= _EXPORT
    context = request.context
    return tuple(
        f"context-missing:{name}" for name, kind in facts.items() if type(context.get(name)) is not kind
    )


def _needs_officers(request: Request) -> bool:
    return request.action in NEEDS_OFFICERS or (
        request.action == "configure" and request.context.get("setting") in SETTINGS_THAT_DECIDE
    )


def _state(request: Request) -> tuple[str, ...]:
    context = request.context
    if context["profile"] not in PROFILES:
        return ("invariant:profile",)
    if request.action in ALWAYS_POSSIBLE:
        return ()
    broken: tuple[str, ...] = ()
    if context["sealed"]:
        broken += ("invariant:sealed",)
    if context["profile"] == "isolated" and not context["isolated"]:
        broken += ("invariant:not-isolated",)
    return broken


def _approved(request: Request) -> tuple[str, ...]:
    if not _needs_officers(request):
        return ()
    context = request.context
    claimed = context["approvals"]
    # Counted again from the names: a signature by the requester is not a second person.
    others = [name for name in _names(context.get("approvers")) if name != context["requester"]]
    enough = isinstance(claimed, int) and min(claimed, len(set(others))) >= OFFICERS
    two = () if enough else ("invariant:two-officers",)
    return two if request.action != "export" or context["signed"] else (*two, "invariant:export-signed")


def _keys(request: Request) -> tuple[str, ...]:
    principal, resource, action = request.principal, request.resource, request.action
    broken: tuple[str, ...] = ()
    if principal.type == "Job" and resource.id not in _names(principal.attrs.get("objects")):
        broken += ("invariant:job-names-it",)
    if action in POSSIBLE_IN_QUARANTINE:
        return broken
    if resource.type == "Object" and resource.attrs.get("state") != "ready":
        broken += ("invariant:quarantined",)
    if resource.type in {"Object", "Bundle"}:
        broken += _need_to_know(request)
    return broken


def _need_to_know(request: Request) -> tuple[str, ...]:
    labels = request.resource.attrs.get("compartments")
    told = _names(request.principal.attrs.get("compartments"))
    known = isinstance(labels, _LISTS) and all(label in told for label in labels)
    return () if known else ("invariant:need-to-know",)


def _names(value: object) -> Collection[object]:
    """Read a list or set of names; anything else names nothing. A string is not the list of its letters."""
    return value if isinstance(value, _LISTS) else ()
