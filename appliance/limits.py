"""How many must approve what, and how much may leave: set by `init`, changed by officers' word. Pure.

A change is the options of a request, word for word: an `action` and its new `quorum`, or a `content` (or
`period`) and what is new in its `budget`, as NAME=NUMBER joined by commas:

    action=export  quorum=people=3,data-owner=1
    content=weights  budget=bytes=1073741824,count=4

Guarantees that what a change makes keeps every rule that `init` keeps: never fewer than two people, and no
quorum that all officers together could not meet. A quorum is replaced whole, a budget in what is named.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from appliance.egress import Budgets, check_budgets
from appliance.errors import UsageError
from policy.quorum import Quorums, check_quorums, demand_reachable

QUORUM = frozenset({"action", "quorum"})
BUDGET = frozenset({"content", "budget"})
_COUNT = re.compile(r"([a-z][a-z0-9_-]{0,31})=([0-9]{1,16})")


@dataclass(frozen=True, slots=True)
class Limits:
    """The quorums by action and the budgets by content that are in force."""

    quorums: Quorums
    budgets: Budgets

    def changed(self, options: Mapping[str, str], officers: Mapping[str, Collection[str]]) -> Limits:
        """Return the limits after a change; `officers` are those who may approve, with their roles.

        Raises UsageError, or Malformed for a quorum that cannot be.
        """
        if options.keys() == QUORUM:
            quorums = {**self.quorums, options["action"]: _counts(options["quorum"])}
            after = replace(self, quorums=check_quorums(quorums))
        else:
            content = options["content"]
            budget = {**self.budgets.get(content, {}), **_counts(options["budget"])}
            after = replace(self, budgets=check_budgets({**self.budgets, content: budget}))
        demand_reachable(after.quorums, officers)
        if after == self:
            raise UsageError("these limits are in force already: nothing was changed")
        return after

    def tables(self) -> tuple[str, str]:
        """Return quorums and budgets in TOML, as people give them to `init`."""
        return _toml(self.quorums), _toml(self.budgets)


def _counts(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for pair in text.split(","):
        found = _COUNT.fullmatch(pair)
        if found is None or found[1] in counts:
            raise UsageError(f"expected NAME=NUMBER joined by commas, each once, found {text[:80]!r}")
        counts[found[1]] = int(found[2])
    return counts


def _toml(tables: Mapping[str, Mapping[str, int]]) -> str:
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
        for name, table in sorted(tables.items())
    )
