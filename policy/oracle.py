"""The few promises that no set of rules may break, checked a second time and in another way.

`broken_invariants` knows nothing of Cedar, of the schema or of which rules are loaded: rules that were
replaced, mistyped or judged by a faulty engine still let nothing out that is forbidden here. A decision is an
allow only where the rules permit and this list is empty:

1. every request states profile, sealed and isolated, of the right type, and the profile is one of two;
2. while sealed, or in the isolated profile on a host that is not isolated: only looking, opening, closing,
   stopping and witnessing;
3. an export is signed for the outside and approved by two officers, two people other than the requester;
4. a job gets a key only for what the decision that started it named;
5. what nobody has verified yet is for verifying only (or is about to be created).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from policy.model import Request

PROFILES = frozenset({"development", "isolated"})
ALWAYS_POSSIBLE = frozenset({"status", "unseal", "seal", "stop", "witness"})
POSSIBLE_WHILE_STAGED = frozenset({"verify", "create"})
OFFICERS_FOR_EXPORT = 2

_FACTS: Mapping[str, type] = {"profile": str, "sealed": bool, "isolated": bool}
_EXPORT_FACTS: Mapping[str, type] = {"approvals": int, "requester": str, "signed": bool}


def broken_invariants(request: Request) -> tuple[str, ...]:
    """Return a reason code for each promise that allowing `request` would break; empty when none."""
    export = request.action == "export"
    missing = _missing(request.context, _FACTS) + (_missing(request.context, _EXPORT_FACTS) if export else ())
    if missing:
        return missing
    return _state(request) + (_export(request) if export else ()) + _keys(request)


def _missing(context: Mapping[str, object], facts: Mapping[str, type]) -> tuple[str, ...]:
    """Name the facts that are absent or of another type; exact types, because True is also an int."""
    return tuple(
        f"context-missing:{name}" for name, kind in facts.items() if type(context.get(name)) is not kind
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


def _export(request: Request) -> tuple[str, ...]:
    context = request.context
    claimed = context["approvals"]
    # Counted again from the names: a signature by the requester is not a second person.
    others = [name for name in _names(context.get("approvers")) if name != context["requester"]]
    enough = isinstance(claimed, int) and min(claimed, len(set(others))) >= OFFICERS_FOR_EXPORT
    two = () if enough else ("invariant:two-officers",)
    return two if context["signed"] else (*two, "invariant:export-signed")


def _keys(request: Request) -> tuple[str, ...]:
    principal, resource = request.principal, request.resource
    broken: tuple[str, ...] = ()
    if principal.type == "Job" and resource.id not in _names(principal.attrs.get("objects")):
        broken += ("invariant:job-names-it",)
    if resource.attrs.get("state") == "staged" and request.action not in POSSIBLE_WHILE_STAGED:
        broken += ("invariant:staged",)
    return broken


def _names(value: object) -> Collection[object]:
    """Read a list or set of names; anything else names nothing. A string is not the list of its letters."""
    return value if isinstance(value, (list, tuple, set, frozenset)) else ()
