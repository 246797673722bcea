"""Logged decisions judged again: what another set of rules would have said.

An entry of a decision states all that was judged: principal, action and resource in its head, their facts
under `judged`, and the rest of its context. What was not decided by rules alone is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy.engine import Engine
from policy.model import Entity, Request

JUDGED: Final = "judged"
# What the gate adds to an entry beside the facts that it put to the rules.
NOT_FACTS: Final = frozenset({JUDGED, "job", "named", "object_name"})


@dataclass(frozen=True, slots=True)
class Logged:
    """A decision as the log has it."""

    index: int
    principal: str
    action: str
    resource: str
    context: Mapping[str, Any]
    allow: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flip:
    """A decision that another set turns."""

    logged: Logged
    allow: bool
    told: tuple[str, ...]
    """The rules that decide now, for an allow, or the reasons."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a log's decisions under another set."""

    judged: int
    skipped: int
    flips: tuple[Flip, ...]


def request_of(logged: Logged) -> Request | None:
    """Return what was judged, None where the entry does not state it or nothing was put to the rules."""
    judged = logged.context.get(JUDGED)
    if not isinstance(judged, Mapping):
        return None
    facts = {name: value for name, value in logged.context.items() if name not in NOT_FACTS}
    principal = _entity(logged.principal, judged["principal"])
    return Request(principal, logged.action, _entity(logged.resource, judged["resource"]), facts)


def replay(engine: Engine, decisions: Iterable[Logged]) -> Replay:
    """Judge each decision again and tell which turn."""
    judged = skipped = 0
    flips = []
    for logged in decisions:
        request = request_of(logged)
        if request is None:
            skipped += 1
            continue
        judged += 1
        found = engine.decide(request)
        if found.allow is not logged.allow:
            flips.append(Flip(logged, found.allow, found.policies if found.allow else found.reasons))
    return Replay(judged, skipped, tuple(flips))


def _entity(named: str, attrs: Mapping[str, Any]) -> Entity:
    kind, _, name = named.partition(":")
    return Entity(kind, name, attrs)
