"""What the log says now: who may approve, what left and when, how much time has passed for certain.

Guarantees that these are never believed from anywhere else: each is gathered from the log's own entries, once
when the appliance starts and then from what was added since, at each look. A catalog or a file that was set
back, or edited, changes none of it.

    officers-changed   who may approve from here on, and in which roles
    egress             something leaves: content, recipient, bytes
    bundle-imported    a signed moment, which raises the floor of time
    clock-set          officers said what the time is
    policy-loaded      which set of rules judges from here on
    limits-changed     how many must approve what, and how much may leave, from here on
    root-changed       who may sign which bundles from here on
    release-floor      below which version no release starts from here on
    started            which release the daemon was, which had looked at the floor
    custody-changed, custody-staged, counter-raised, breach, unsealed      where the newest of each stands

A start reads the whole log for this: some 10 µs an entry (2 cores of an AMD EPYC, busy, 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.bundle.floor import BUILT, raised
from appliance.catalog.entries import CHARGED, IMPORTED
from appliance.custody.generations import CUSTODY_ENTRIES
from appliance.egress import Charge, LogClock
from appliance.errors import IntegrityError
from appliance.home import Facts
from appliance.inventory import STARTED
from appliance.limits import Limits
from appliance.release.version import LOWEST, parse_version
from audit.entry import parse_entry
from audit.errors import Invalid
from audit.log import Log

OFFICERS_CHANGED = "officers-changed"
CLOCK_SET = "clock-set"
POLICY_LOADED = "policy-loaded"
LIMITS_CHANGED = "limits-changed"
ROOT_CHANGED = "root-changed"
RELEASE_FLOOR = "release-floor"
OFFICER = "officer"
COUNTER_RAISED = "counter-raised"
BREACH, UNSEALED = "breach", "unsealed"
RELEASE = "release"

_CHANGES = (OFFICERS_CHANGED, CLOCK_SET, POLICY_LOADED, LIMITS_CHANGED, ROOT_CHANGED, RELEASE_FLOOR)
_PLACES = (*CUSTODY_ENTRIES, COUNTER_RAISED, BREACH, UNSEALED)
_TAKEN = (*_CHANGES, *_PLACES, CHARGED, IMPORTED, STARTED)
_KINDS = re.compile(f'"kind":"(?:{"|".join(_TAKEN)})"'.encode())
# An entry is canonical JSON with sorted keys, so it ends with its time and version: "time":"…","v":1}
_TIME = slice(-len('2026-01-02T03:04:05.000000Z","v":1}'), -len('","v":1}'))


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who may approve: the digest of the allowed-signers file in force, and everybody's roles by name."""

    officers_sha256: str
    roles: Mapping[str, tuple[str, ...]]
    since: Mapping[str, int]
    """The log entry that enrolled a person who was not there from the beginning."""

    def officers(self) -> dict[str, tuple[str, ...]]:
        """Return those who may approve, each with their roles."""
        return {name: roles for name, roles in self.roles.items() if OFFICER in roles}

    def without_officers(self) -> Enrolment:
        """Return the same people, none of them an officer, under no file."""
        roles = {name: ("operator",) for name, held in self.roles.items() if "operator" in held}
        return Enrolment("", roles, {})

    def counts(self, person: str, index: int) -> bool:
        """Say whether an approval in entry `index` counts: by an officer, and one since before then."""
        return OFFICER in self.roles.get(person, ()) and self.since.get(person, -1) < index


class Ledger:
    """What one open log says, brought up to date at each look."""

    def __init__(self, log: Log, facts: Facts) -> None:
        self._log = log
        self._next = 0
        self._clock = LogClock()
        self._charges: list[Charge] = []
        self._floor = BUILT
        self._enrolment = Enrolment(facts.officers_sha256, facts.roles, {})
        self._limits = Limits(facts.quorums, facts.budgets)
        self._policies = [facts.policy_set]
        self._roots: list[str] = []
        self._release_floor = LOWEST
        self._released = (-1, LOWEST)  # the newest entry that bounds the floor from above, and that bound
        self._places: dict[str, int] = {}
        self.last_unreadable = -1
        """The newest entry that cannot be read, -1 where each can."""
        self.damage = ""
        """What is wrong with the log: an entry that cannot be read may have said anything."""
        self._read()

    @property
    def enrolment(self) -> Enrolment:
        """Who may approve now; nobody, where an entry cannot be read that may have said otherwise."""
        self._read()
        return self._enrolment.without_officers() if self.damage else self._enrolment

    @property
    def limits(self) -> Limits:
        """How many must approve what, and how much may leave; raises IntegrityError if not known."""
        self._demand_whole()
        return self._limits

    @property
    def charges(self) -> Sequence[Charge]:
        """Everything that ever left, oldest first; raises IntegrityError where that is not known."""
        self._demand_whole()
        return self._charges

    @property
    def policy_set(self) -> str:
        """The digest of the rules in force; raises IntegrityError where that is not known.

        Each decision names the rules that it was made by: an entry of a change that cannot be read any more
        does not bring the rules of before back.
        """
        self._read()
        if self.damage and self._last_named() != self._policies[-1]:
            raise IntegrityError(
                f"{self.damage}; which rules are in force is not known until the log is whole again: "
                "restore it from a copy"
            )
        return self._policies[-1]

    @property
    def previous_policy(self) -> str:
        """The digest of the rules that were in force before; empty for the first ones."""
        self._demand_whole()
        return self._policies[-2] if len(self._policies) > 1 else ""

    @property
    def clock(self) -> LogClock:
        """The time by the log's entries."""
        self._read()
        return self._clock

    @property
    def release_floor(self) -> str:
        """The version below which no release starts; raises IntegrityError where that is not known."""
        self._demand_whole()
        return self._release_floor

    @property
    def least_release(self) -> str:
        """The version that a release needs to start, where the log is damaged too; raises IntegrityError.

        A release that started after the damage had looked at the floor, so none above it can be hidden there.
        """
        self._read()
        index, bound = self._released
        if not self.damage:
            return self._release_floor
        if index < self.last_unreadable:
            raise IntegrityError(
                f"{self.damage}; which releases may start is not known, since no later entry names one that "
                "did: put the log's newest copy back, or go on under a new log with `appliance restore-log`"
            )
        return max(bound, self._release_floor, key=parse_version)

    def newest(self, kind: str) -> int:
        """Return the newest readable entry of a kind that is taken here, -1 where there is none."""
        self._read()
        return self._places.get(kind, -1)

    @property
    def roots(self) -> Sequence[str]:
        """Versions of the root since the one that `init` pinned; raises IntegrityError if not known."""
        self._demand_whole()
        return self._roots

    @property
    def floor(self) -> str:
        """The latest moment that has passed, as manifests write it; raises IntegrityError if not known."""
        self._demand_whole()
        return self._floor

    def _read(self) -> None:
        for index in range(self._next, self._log.size):
            self._next = index + 1
            try:
                entry = self._log.entry(index)
            except Invalid as damaged:
                self.damage = self.damage or str(damaged)
                self.last_unreadable = index
                continue
            self._clock.feed(entry[_TIME].decode("ascii"))
            if _KINDS.search(entry):
                self._take(index, entry)

    def _last_named(self) -> str:
        """Return the rules that the newest readable decision, or change of rules, names."""
        for index in range(self._log.size - 1, -1, -1):
            try:
                entry = parse_entry(self._log.entry(index))
            except Invalid:
                continue
            if entry.decision is not None:
                return entry.decision.policy_set
            if entry.kind == POLICY_LOADED:
                return str(entry.context["policy_set"])
        return self._policies[0]

    def _demand_whole(self) -> None:
        self._read()
        if self.damage:
            raise IntegrityError(
                f"{self.damage}; what left and who may approve is not known until the log is whole again: "
                "restore it from a copy"
            )

    def _take(self, index: int, entry: bytes) -> None:
        parsed = parse_entry(entry)
        said: Mapping[str, Any] = parsed.context  # written by this appliance, and signed
        self._places[parsed.kind] = index
        if parsed.kind == OFFICERS_CHANGED:
            self._enrol(index, said)
        elif parsed.kind == CHARGED:
            charge = Charge(index, self._clock.seconds, said["content"], said["recipient"], said["bytes"])
            self._charges.append(charge)
        elif parsed.kind == IMPORTED and "issued_at" in said:
            self._floor = raised(self._floor, said["issued_at"])
        elif parsed.kind == ROOT_CHANGED:
            self._roots.append(said["root"])
        elif parsed.kind in {RELEASE_FLOOR, STARTED}:
            self._bound_release(index, said)
        elif parsed.kind == LIMITS_CHANGED:
            self._limits = Limits(said["quorums"], said["budgets"])
        elif parsed.kind == POLICY_LOADED:
            self._policies.append(said["policy_set"])
        elif parsed.kind == CLOCK_SET:
            self._floor = said["floor"]
            if "restored_from" in said:  # told again in a new log, whose time began later
                return
            self._clock.set(f"{said['floor'][:19]}.000000Z")

    def _bound_release(self, index: int, said: Mapping[str, Any]) -> None:
        if "floor" in said:
            self._release_floor = said["floor"]
        bound = said.get("floor", said.get(RELEASE))
        if bound is not None:
            self._released = (index, bound)

    def _enrol(self, index: int, said: Mapping[str, Any]) -> None:
        before = self._enrolment
        roles = {name: tuple(given) for name, given in said["roles"].items()}
        new = {name for name, held in roles.items() if OFFICER in held} - before.officers().keys()
        since = {**before.since, **dict.fromkeys(new, index)}
        self._enrolment = Enrolment(said["officers_sha256"], roles, since)
