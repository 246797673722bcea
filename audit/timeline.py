"""What happened when, in a bounded number of buckets however long the log is.

Guarantees constant memory: once the buckets are used up, neighbours are merged and each is twice as wide.
Times are the appliance's own clock's; what lies before the first entry's counts in the first bucket.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BUCKETS = 128

# The lanes of the appliance's state; a value is "" where the log does not say.
ON, OFF = "running", "not running"
OPEN, SEALED = "open", "sealed"
ISOLATED, NOT_ISOLATED = "isolated", "not isolated"


@dataclass(frozen=True, slots=True)
class State:
    """What the appliance said about itself: is it running, is the vault open, is the host isolated."""

    power: str = ""
    vault: str = ""
    isolation: str = ""


@dataclass(slots=True)
class Bucket:
    """A stretch of time: entries, decisions, the states that were seen in it, and the last of them."""

    entries: int = 0
    allowed: int = 0
    denied: int = 0
    seen: set[State] = field(default_factory=set)
    last: State = field(default_factory=State)

    def absorb(self, later: Bucket) -> None:
        """Add a later stretch to this one."""
        self.entries += later.entries
        self.allowed += later.allowed
        self.denied += later.denied
        self.seen |= later.seen
        self.last = later.last if later.entries else self.last


@dataclass(slots=True)
class Timeline:
    """Buckets of `width_s` seconds from `begin_s` (Unix seconds); the list ends with the last entry's."""

    begin_s: float = 0.0
    width_s: float = 1.0
    buckets: list[Bucket] = field(default_factory=list)

    def add(self, seconds: float, state: State, *, allowed: bool | None) -> None:
        """Count one entry, and the decision it holds if it holds one."""
        if not self.buckets:
            self.begin_s = seconds
        position = max(0, int((seconds - self.begin_s) / self.width_s))
        while position >= BUCKETS:
            self._widen()
            position //= 2
        while len(self.buckets) <= position:
            self.buckets.append(Bucket())
        bucket = self.buckets[position]
        bucket.entries += 1
        bucket.allowed += allowed is True
        bucket.denied += allowed is False
        bucket.seen.add(state)
        bucket.last = state

    def _widen(self) -> None:
        merged = self.buckets[::2]
        for early, late in zip(merged, self.buckets[1::2], strict=False):
            early.absorb(late)
        self.buckets = merged
        self.width_s *= 2
