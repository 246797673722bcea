"""Why a decision is as it is: which rule decided, which else would have, and what would turn it.

Says nothing that counts: every line comes from asking the same engine again, with one thing changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from policy.engine import Engine
from policy.model import Decision, Request

MOST_APPROVALS: Final = 5

# By the part of a code before its colon, or by the whole; the first that fits is told.
NEXT_STEPS: Final[Mapping[str, str]] = {
    "no-rule-permits": "ask somebody who holds the role that the rules name for it",
    "invariant:sealed": "open the vault with `appliance unseal`",
    "invariant:not-isolated": "`appliance doctor` names what isolates this host",
    "invariant:need-to-know": "ask somebody who carries the compartments of all that is named",
    "invariant:quarantined": "wait until it is verified; what failed to verify stays where it is",
    "invariant:job-names-it": "start a job whose decision names this object",
    "invariant:two-officers": "have two officers sign a request: `appliance request --help`",
    "forbidden-by": "read the rule of that name; rules are changed with `appliance policy load`",
    "name-refused": "check the name for letters that only look like ASCII, for blanks, and its length",
    "entity-missing": "check the name: nothing is known by it",
    "unknown-object": "check the name: `appliance objects` lists what is there",
    "unknown-action": "check the spelling of the action",
    "not-applicable": "this action is not for that kind of person or thing: check both",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and what was found by asking again."""

    decision: Decision
    permits: tuple[str, ...]
    """Rules that by themselves permit it; where another forbids it, these would have."""
    forbids: tuple[str, ...]
    """Rules that by themselves forbid it."""
    considered: tuple[str, ...]
    """Rules whose head fits and whose conditions do not hold."""
    approvals: int
    """How many approvals by other people would allow it; 0 where none would, or where it is allowed."""

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What can be done about a denial."""
        steps = [f"with {self.approvals} approvals it is allowed"] if self.approvals else []
        for reason in self.decision.reasons:
            step = next_step(reason)
            if step and step not in steps:
                steps.append(step)
        return tuple(steps)


def next_step(reason: str) -> str:
    """Return what to do about one reason code; empty where there is nothing to say."""
    return NEXT_STEPS.get(reason) or NEXT_STEPS.get(reason.partition(":")[0], "")


def explain(engine: Engine, request: Request) -> Explanation:
    """Ask about a request in every way that tells something about its decision."""
    decision = engine.decide(request)
    alone = engine.each_alone(request)
    permits = tuple(name for name, effect in alone.items() if effect == "permit")
    forbids = tuple(name for name, effect in alone.items() if effect == "forbid")
    considered = tuple(name for name, effect in alone.items() if not effect)
    return Explanation(decision, permits, forbids, considered, _approvals(engine, request, decision))


def _approvals(engine: Engine, request: Request, decision: Decision) -> int:
    """Return how few approvals would turn a denial, by people that nobody is called like."""
    if decision.allow:
        return 0
    for count in range(1, MOST_APPROVALS + 1):
        approved = {
            "approvals": count,
            "approvers": [f"officer-{number}" for number in range(count)],
            "requester": request.principal.id,
        }
        signed = {"signed": True} if request.action == "export" else {}
        context = {**request.context, **approved, **signed}
        if engine.decide(replace(request, context=context)).allow:
            return count
    return 0
