"""Tables that stay small however long the log is, and say how much they left out.

Guarantees constant memory, and that what is not in a table is at least counted: nothing disappears.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from audit.entry import Entry

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class Span:
    """How many entries, the first and the last of them, and their times."""

    count: int
    first: int
    first_time: str
    last: int
    last_time: str


@dataclass(slots=True)
class Tally(Generic[K]):
    """Entries counted by what they have in common; the first `limit` different things have a row."""

    limit: int
    rows: dict[K, Span] = field(default_factory=dict)
    left_out: int = 0

    def add(self, key: K, entry: Entry) -> None:
        """Count one entry, in its row or as left out."""
        span = self.rows.get(key)
        if span is not None:
            span.count += 1
            span.last, span.last_time = entry.seq, entry.time
        elif len(self.rows) < self.limit:
            self.rows[key] = Span(1, entry.seq, entry.time, entry.seq, entry.time)
        else:
            self.left_out += 1

    def __iter__(self) -> Iterator[tuple[K, Span]]:
        return iter(self.rows.items())


@dataclass(slots=True)
class Recent(Generic[V]):
    """Things by name, of which the `limit` newest are kept."""

    limit: int
    rows: dict[str, V] = field(default_factory=dict)
    left_out: int = 0

    def add(self, name: str, value: V) -> V:
        """Keep a thing as the newest; the oldest goes where there is no room."""
        self.rows[name] = value
        if len(self.rows) > self.limit:
            del self.rows[next(iter(self.rows))]
            self.left_out += 1
        return value

    def __iter__(self) -> Iterator[V]:
        return iter(self.rows.values())
