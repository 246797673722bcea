"""A grant is a decision that was logged; the live table makes each one good for one key, once.

Guarantee: what `consume` lets through was issued by the gate in this process, not yet used, not expired and
not revoked. The check is by identity, so that a copy built with the same fields, or one from before a seal,
opens nothing. Pure: the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.errors import PolicyRefused


@dataclass(frozen=True, slots=True)
class Grant:
    """The right to one object, for one action, in one job, until a deadline.

    Made by the gate alone, after the entry was durable: `index` and `receipt` prove that.
    """

    index: int
    """Log index of the decision."""
    receipt: bytes
    """The entry's tlog-proof."""
    entry: bytes
    principal: str
    action: str
    object_id: str
    """A vault object (64 hex digits) or a bundle id."""
    job: str
    deadline: float
    """Monotonic seconds at which the lease ends."""


class LiveGrants:
    """The grants that are good now: issued, then consumed once; the lease lasts until the deadline."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._unused: dict[int, Grant] = {}
        self._leases: dict[int, Grant] = {}
        self._rests_on: dict[str, frozenset[str]] = {}
        self._ended: set[str] = set()

    def rest(self, job: str, people: Iterable[str]) -> None:
        """Note that all that a job is granted rests on these people's approval, beside those noted before."""
        self._rests_on[job] = self._rests_on.get(job, frozenset()) | frozenset(people)

    def end_of(self, person: str) -> tuple[str, ...]:
        """End every job that rests on one person's approval: nothing more for it, and its leases are over.

        Returns the jobs; their workers are to be killed, as `overdue_jobs` says from here on.
        """
        jobs = tuple(sorted(job for job, people in self._rests_on.items() if person in people))
        self._ended.update(jobs)
        for index in [index for index, grant in self._unused.items() if grant.job in jobs]:
            del self._unused[index]
        return jobs

    def issue(self, grant: Grant) -> None:
        """Enter a grant that the gate just logged.

        Raises PolicyRefused when its index was used before, or its job rests on approval that was taken back.
        """
        self.check(grant.job)
        if grant.index in self._unused or grant.index in self._leases:
            raise PolicyRefused(f"grant {grant.index} refused: expected a new log index, found one in use")
        self._unused[grant.index] = grant

    def consume(self, grant: Grant) -> None:
        """Use a grant up; raises PolicyRefused when it is unknown, used, forged, revoked or expired."""
        if self._unused.get(grant.index) is not grant:
            raise PolicyRefused(
                f"grant {grant.index} refused: expected one issued by the gate and unused, found none; "
                "ask the gate again"
            )
        del self._unused[grant.index]
        late = self._clock() - grant.deadline
        if late >= 0:
            raise PolicyRefused(
                f"grant {grant.index} refused: it expired {late:.1f} s ago; ask the gate for a new one"
            )
        self._leases[grant.index] = grant

    def check(self, job: str) -> None:
        """Raise PolicyRefused where a job rested on approval that was taken back meanwhile."""
        if job in self._ended:
            raise PolicyRefused(
                f"job {job} rested on the approval of an officer who was revoked; ask officers anew"
            )

    def holders(self, object_id: str) -> frozenset[str]:
        """Return the jobs that use an object: they hold its key, or may still take it."""
        found = (*self._unused.values(), *self._leases.values())
        return frozenset(each.job for each in found if (each.object_id, each.action) == (object_id, "use"))

    def revoke_job(self, job: str) -> int:
        """Drop every grant and lease of a job, which is over; returns how many there were."""
        self._rests_on.pop(job, None)
        self._ended.discard(job)
        return self._drop(lambda grant: grant.job == job)

    def revoke_all(self) -> int:
        """Drop everything: the vault is sealed, or the policy changed; returns how many there were."""
        return self._drop(lambda _: True)

    def overdue_jobs(self) -> frozenset[str]:
        """Return the jobs whose workers are to be killed: past a deadline, or bereft of their approval."""
        now = self._clock()
        late = (grant.job for grant in self._leases.values() if grant.deadline <= now)
        return frozenset((*late, *self._ended))

    def _drop(self, chosen: Callable[[Grant], bool]) -> int:
        dropped = 0
        for table in (self._unused, self._leases):
            for index in [index for index, grant in table.items() if chosen(grant)]:
                del table[index]
                dropped += 1
        return dropped
