"""Broken glass: the leave for one job to start although the log is long unwitnessed.

Guarantees that one leave serves one job and is never handed on: the next decision that starts a job takes it,
and it covers that job's own requests until it is started again. It lives in memory: a daemon that ends takes
it along.
"""

from __future__ import annotations

STARTS = frozenset({"train", "sample", "evaluate", "export"})


class Allowance:
    """At most one leave: given and not yet taken, or taken by one job."""

    def __init__(self) -> None:
        self.is_open = False
        """Whether the next job may take it."""
        self._job = ""

    def give(self) -> None:
        """Give the leave; two of them are one."""
        self.is_open = True

    def lifts(self, action: str, job: str) -> bool:
        """Say whether the limits on an unwitnessed log are lifted for this request."""
        if action in STARTS:
            return self.is_open
        return bool(job) and job == self._job

    def spend(self, action: str, job: str) -> None:
        """Take note of a decision that was allowed and logged."""
        if action in STARTS and (self.is_open or job == self._job):
            self._job = job if self.is_open else ""
            self.is_open = False
