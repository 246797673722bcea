"""What may leave in a period, in bytes and in number, to one recipient and in all. Pure.

Guarantees that what left is counted by the log's own time alone: `LogClock` goes forward with the newest time
that the log has seen and stands still when a clock is turned back, so nothing is ever given back by turning a
clock. KNOWN: a clock that is turned forward gives room early; the log shows the step. If it is then turned
back, room returns only when time has caught up, or when officers set the clock (`clock-set`), which itself
gives nothing back.

Three contents are counted apart: `weights`, `text` (what `sample` shows) and `metrics` (figures of a run).
Limits as people write them, in TOML; what is left out is as `DEFAULTS` has it:

    [period]
    days = 7
    [weights]
    bytes = 68719476736
    count = 16
    recipient_bytes = 34359738368
    recipient_count = 8
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from appliance.errors import UsageError

CONTENTS: Final = ("weights", "text", "metrics")
LIMITS: Final = ("bytes", "count", "recipient_bytes", "recipient_count")
DAY_S: Final = 24 * 3600
MOST: Final = 1 << 50  # a pebibyte; what is larger is a slip
MAX_TEXT_CHARS: Final = 16384

Budgets = Mapping[str, Mapping[str, int]]

# Tuning, for a small laboratory: a few exports of a few gigabytes a week, text that a person can read.
DEFAULTS: Final[Budgets] = {
    "period": {"days": 7},
    "weights": {"bytes": 64 << 30, "count": 16, "recipient_bytes": 32 << 30, "recipient_count": 8},
    "text": {"bytes": 4 << 20, "count": 2000, "recipient_bytes": 4 << 20, "recipient_count": 2000},
    "metrics": {"bytes": 1 << 20, "count": 32, "recipient_bytes": 1 << 19, "recipient_count": 16},
}


@dataclass(frozen=True, slots=True)
class Charge:
    """Something that left: log entry `index`, made when `LogClock` had counted `at_s` seconds."""

    index: int
    at_s: float
    content: str
    recipient: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Used:
    """What left in the period that ends now, in all and to one recipient."""

    size_bytes: int
    count: int
    recipient_bytes: int
    recipient_count: int

    def beyond(self, limits: Mapping[str, int], size_bytes: int) -> tuple[str, ...]:
        """Return the names of the limits that one more of `size_bytes` would go beyond."""
        after = {
            "bytes": self.size_bytes + size_bytes,
            "count": self.count + 1,
            "recipient_bytes": self.recipient_bytes + size_bytes,
            "recipient_count": self.recipient_count + 1,
        }
        return tuple(name for name in LIMITS if after[name] > limits[name])


class LogClock:
    """Seconds by the times of a log's entries, counted forward only."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """How far the newest time went beyond the first, steps back left out."""
        self.latest = ""
        """The newest time seen, RFC 3339 with microseconds; "" before the first."""

    def feed(self, time: str) -> None:
        """Take the next entry's time in; one that is not newer changes nothing."""
        self.seconds += self.ahead_s(time)
        self.latest = max(self.latest, time)

    def ahead_s(self, time: str) -> float:
        """Return how many seconds `time` is beyond the newest one, 0 if it is not."""
        if not self.latest or time <= self.latest:
            return 0.0
        return (datetime.fromisoformat(time) - datetime.fromisoformat(self.latest)).total_seconds()

    def set(self, time: str) -> None:
        """Go on from `time`, as officers said: nothing is counted for the step, in either direction."""
        self.latest = time

    def now(self) -> datetime:
        """Return the newest time seen; there is one as soon as a log has an entry."""
        return datetime.fromisoformat(self.latest)

    def moment(self, seconds: float) -> str:
        """Return the time at which `seconds` will be reached, to the second."""
        ahead = timedelta(seconds=max(0.0, seconds - self.seconds) + 1)
        return (datetime.fromisoformat(self.latest) + ahead).strftime("%Y-%m-%dT%H:%M:%SZ")


def used(charges: Iterable[Charge], content: str, recipient: str, since_s: float) -> Used:
    """Count what left as `content` after `since_s`."""
    within = [charge for charge in charges if charge.content == content and charge.at_s > since_s]
    to_them = [charge for charge in within if charge.recipient == recipient]
    return Used(
        sum(charge.size_bytes for charge in within),
        len(within),
        sum(charge.size_bytes for charge in to_them),
        len(to_them),
    )


def room_at(
    budgets: Budgets, charges: Sequence[Charge], content: str, recipient: str, size_bytes: int, now_s: float
) -> float | None:
    """Return the second at which `size_bytes` more fit: `now_s` where they do, None where they never will."""
    limits, period_s = budgets[content], budgets["period"]["days"] * DAY_S
    leaves = (charge.at_s + period_s for charge in charges if charge.content == content)
    for moment in (now_s, *sorted(second for second in leaves if second > now_s)):
        if not used(charges, content, recipient, moment - period_s).beyond(limits, size_bytes):
            return moment
    return None


def check_budgets(given: object) -> Budgets:
    """Check limits as they are logged, and fill in what is left out; raises UsageError."""
    if not isinstance(given, Mapping) or not given.keys() <= DEFAULTS.keys():
        raise UsageError(f"budget: expected tables named {', '.join(DEFAULTS)}, found {given!r:.80}")
    whole: dict[str, dict[str, int]] = {}
    for name, defaults in DEFAULTS.items():
        table = given.get(name, {})
        if not isinstance(table, Mapping) or not table.keys() <= defaults.keys():
            raise UsageError(f"budget, {name}: expected {', '.join(defaults)}, found {table!r:.80}")
        for limit, value in table.items():
            if type(value) is not int or not (name == "period") <= value <= MOST:
                raise UsageError(f"budget, {name}: expected {limit} as a whole number, found {value!r:.40}")
        whole[name] = {**defaults, **table}
    return whole


def parse_budgets(text: str) -> Budgets:
    """Read limits as people write them (TOML); raises UsageError."""
    if len(text) > MAX_TEXT_CHARS:
        raise UsageError(f"budget: expected at most {MAX_TEXT_CHARS} characters, found {len(text)}")
    try:
        return check_budgets(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"budget: expected TOML, found: {error}") from error
