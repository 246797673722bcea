"""A grant is a decision that was logged; the live table makes each one good for one key, once.

Guarantee: what `consume` lets through was issued by the gate in this process, not yet used, not expired and
not revoked. The check is by identity, so that a copy built with the same fields, or one from before a seal,
opens nothing. Pure: the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
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

    def issue(self, grant: Grant) -> None:
        """Enter a grant that the gate just logged; raises PolicyRefused when its index was used before."""
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

    def revoke_job(self, job: str) -> int:
        """Drop every grant and lease of a job; returns how many there were."""
        return self._drop(lambda grant: grant.job == job)

    def revoke_all(self) -> int:
        """Drop everything: the vault is sealed, or the policy changed; returns how many there were."""
        return self._drop(lambda _: True)

    def overdue_jobs(self) -> frozenset[str]:
        """Return the jobs that hold a key past its deadline: their workers are to be killed."""
        now = self._clock()
        return frozenset(grant.job for grant in self._leases.values() if grant.deadline <= now)

    def _drop(self, chosen: Callable[[Grant], bool]) -> int:
        dropped = 0
        for table in (self._unused, self._leases):
            for index in [index for index, grant in table.items() if chosen(grant)]:
                del table[index]
                dropped += 1
        return dropped
