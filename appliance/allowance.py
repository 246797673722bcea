"""Broken glass: the leave for one job to start although the log is long unwitnessed.

Guarantees that one leave serves one job and is never handed on: the next decision that starts a job takes it,
and it covers that job's own requests until it is started again. It lives in memory: a daemon that ends takes
it along.
"""

from __future__ import annotations

from collections.abc import Iterable

STARTS = frozenset({"train", "sample", "evaluate", "export"})


class Allowance:
    """At most one leave: given and not yet taken, or taken by one job."""

    def __init__(self) -> None:
        self.is_open = False
        """Whether the next job may take it."""
        self._job = ""
        self._people: frozenset[str] = frozenset()

    def give(self, people: Iterable[str] = ()) -> None:
        """Give the leave, which rests on these people's approval; two of them are one."""
        self.is_open = True
        self._people = frozenset(people)

    def take_back(self, person: str) -> None:
        """Take an open leave back that rests on one person's approval."""
        self.is_open = self.is_open and person not in self._people

    def lifts(self, action: str, job: str) -> bool:
        """Say whether the limits on an unwitnessed log are lifted for this request."""
        if action in STARTS:
            return self.is_open
        return bool(job) and job == self._job

    def spend(self, action: str, job: str) -> frozenset[str]:
        """Take note of a decision that was allowed and logged; return whose approval it rests on by this."""
        if action not in STARTS or not (self.is_open or job == self._job):
            return frozenset()
        taken = self.is_open
        self._job = job if taken else ""
        self.is_open = False
        return self._people if taken else frozenset()
