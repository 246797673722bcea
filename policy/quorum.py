"""How many must approve, and in which roles: k of n people, and each role that is named by somebody else.

Guarantees that nothing is ever approved by fewer than two people, whatever a quorum says or leaves out, and
that one person fills one place: who is both security officer and data owner counts as one of them, not as
both. Pure; whose signatures are good is for `policy.approvals` to say.

A quorum as people write it, one table for each action, `default` for the actions that have none:

    [default]
    people = 2
    [export]
    people = 3
    security-officer = 1
    data-owner = 1
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from policy.errors import Malformed

LEAST_PEOPLE: Final = 2
MOST_PEOPLE: Final = 16
DEFAULT: Final = "default"
ACTIONS: Final = ("break-glass", "configure", "export", "shred")
MAX_TEXT_CHARS: Final = 16384
ROLE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")

_PEOPLE = "people"


@dataclass(frozen=True, slots=True)
class Quorum:
    """At least `people` different people, among them for each role so many who hold it."""

    people: int = LEAST_PEOPLE
    roles: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        """Raise Malformed for a quorum that one person could meet, or nobody."""
        if type(self.people) is not int or not LEAST_PEOPLE <= self.people <= MOST_PEOPLE:
            raise Malformed(f"quorum: expected {LEAST_PEOPLE} to {MOST_PEOPLE} people, found {self.people!r}")
        for role, count in (self.roles or {}).items():
            if not ROLE.fullmatch(role) or type(count) is not int or not 1 <= count <= MOST_PEOPLE:
                raise Malformed(
                    f"quorum: expected a role with 1 to {MOST_PEOPLE} people, found {role[:40]!r} = {count!r}"
                )
        if sum((self.roles or {}).values()) > self.people:
            raise Malformed(
                f"quorum: expected at least as many people as places in roles, found {self.people} people"
            )

    def missing(self, people: Mapping[str, Collection[str]]) -> tuple[str, ...]:
        """Say what is missing when `people`, by name with their roles, approved; empty when nothing is."""
        lacks = [f"{len(people)}-of-{self.people}"] if len(people) < self.people else []
        places = [role for role, count in sorted((self.roles or {}).items()) for _ in range(count)]
        filled = _filled(places, people)
        lacks += [f"{role}" for place, role in enumerate(places) if place not in filled]
        return tuple(lacks)


Quorums = Mapping[str, Mapping[str, int]]


def quorum_of(quorums: Quorums, action: str) -> Quorum:
    """Return the quorum of an action: its own, else the default one, else two people."""
    given = dict(quorums.get(action, quorums.get(DEFAULT, {})))
    return Quorum(given.pop(_PEOPLE, LEAST_PEOPLE), given)


def check_quorums(quorums: object) -> Quorums:
    """Check a table of quorums as it is logged; raises Malformed."""
    if not isinstance(quorums, Mapping):
        raise Malformed(f"quorum: expected a table for each action, found {type(quorums).__name__}")
    for action, given in quorums.items():
        if action not in (*ACTIONS, DEFAULT) or not isinstance(given, Mapping):
            raise Malformed(
                f"quorum: expected tables named {', '.join(ACTIONS)} or {DEFAULT}, found {action!r:.40}"
            )
        if not all(isinstance(role, str) for role in given):
            raise Malformed("quorum: expected roles by name")
        quorum_of({action: given}, action)
    return quorums


def parse_quorums(text: str) -> Quorums:
    """Read quorums as people write them (TOML); raises Malformed."""
    if len(text) > MAX_TEXT_CHARS:
        raise Malformed(f"quorum: expected at most {MAX_TEXT_CHARS} characters, found {len(text)}")
    try:
        return check_quorums(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"quorum: expected TOML, found: {error}") from error


def demand_reachable(quorums: Quorums, people: Mapping[str, Collection[str]]) -> None:
    """Raise Malformed where the people who may approve, all together, could not meet some quorum."""
    for action in (*ACTIONS, DEFAULT):
        lacks = quorum_of(quorums, action).missing(people)
        if lacks:
            raise Malformed(
                f"quorum of {action}: {len(people)} officers could never meet it, missing "
                f"{', '.join(lacks)}; enrol more first"
            )


def _filled(places: list[str], people: Mapping[str, Collection[str]]) -> frozenset[int]:
    """Give as many places as possible to people who hold the role, one place each (augmenting paths)."""
    holder: dict[str, int] = {}

    def seat(place: int, tried: set[str]) -> bool:
        for person in _holders(places[place], people):
            if person not in tried:
                tried.add(person)
                if person not in holder or seat(holder[person], tried):
                    holder[person] = place
                    return True
        return False

    for place in range(len(places)):
        seat(place, set())
    return frozenset(holder.values())


def _holders(role: str, people: Mapping[str, Collection[str]]) -> Iterable[str]:
    return sorted(person for person, roles in people.items() if role in roles)
