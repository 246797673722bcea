"""How a running job looks where there is no terminal: a line for each milestone, and one every few seconds.

Pure but for `Lines`, which is given its clock and its stream. Time left is measured from what was
seen here, so a resumed job does not count the steps of its earlier life.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from appliance.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

QUIET_S = 5.0  # between two progress lines where there is no terminal to redraw on
BAR_WIDTH = 24
MILESTONES = frozenset(
    {
        *("started", "granted", "computing", "resumed", "damaged"),
        *("evaluated", "checkpoint", "stopped", "done", "failed"),
    }
)
ENDS = frozenset({"stopped", "done", "failed"})


def duration_text(seconds: float) -> str:
    """Write a time span as people say it: `45s`, `2m05s`, `3h07m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def bar_text(step: int, steps: int, width: int = BAR_WIDTH) -> str:
    """Draw `[####....]`; an unknown total draws an empty bar."""
    filled = min(width, width * step // steps) if steps > 0 else 0
    return f"[{'#' * filled}{'.' * (width - filled)}]"


def figures(event: Mapping[str, Any], time_left_s: float | None) -> list[str]:
    """Phrase an event's numbers, most wanted first; figures that it does not carry are left out."""
    parts = [f"step {event['step']}/{event['steps']}"] if event["steps"] else []
    if (loss := event.get("loss")) is not None:
        parts.append(f"loss {loss:.3f}")
    if (bits := event.get("bits_per_byte")) is not None:
        parts.append(f"{bits:.3f} bits/byte")
    if (speed := event.get("tokens_per_s")) is not None:
        parts.append(f"{speed:,.0f} tokens/s")
    if time_left_s is not None:
        parts.append(f"{duration_text(time_left_s)} left")
    return parts


def milestone_text(event: Mapping[str, Any], time_left_s: float | None = None) -> str:
    """Phrase an event that is more than progress: what happened, the figures, what it made or ended for."""
    if event["kind"] == "granted":
        return f"granted  {event.get('reason')}  object {event.get('object')}"
    parts = [event["kind"], *figures(event, time_left_s if event["kind"] not in ENDS else None)]
    if event["kind"] in ENDS:
        parts.append(f"after {duration_text(event['elapsed_s'])}")
    if (sealed := event.get("object")) is not None:
        parts.append(f"object {sealed}")
    if (reason := event.get("reason")) is not None:
        parts.append(f"({reason})")
    return "  ".join(parts)


@dataclass(slots=True)
class Pace:
    """How long a job still takes, from the steps that were seen here."""

    left_s: float | None = None
    _first: tuple[int, float] | None = field(default=None, init=False)

    def note(self, event: Mapping[str, Any]) -> float | None:
        """Take an event in and return the seconds left, None where they cannot be told yet."""
        step, elapsed = int(event["step"]), float(event["elapsed_s"])
        if self._first is None or step <= self._first[0]:  # what comes before the first step is not its pace
            self._first = (step, elapsed)
        steps_seen, seconds_seen = step - self._first[0], elapsed - self._first[1]
        known = steps_seen > 0 and seconds_seen > 0
        self.left_s = (int(event["steps"]) - step) * seconds_seen / steps_seen if known else None
        return self.left_s


@dataclass(slots=True)
class Lines:
    """Shows events on `out`, a line for each milestone and every few seconds; `clock` only moves forward."""

    out: TextIO
    clock: Callable[[], float]
    _pace: Pace = field(default_factory=Pace, init=False)
    _last_line_at: float | None = field(default=None, init=False)
    _latest: dict[str, Any] = field(default_factory=dict, init=False)

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event. The newest loss and evaluation stay visible until newer ones come."""
        self._latest.update({name: value for name, value in event.items() if value is not None})
        left = self._pace.note(event)
        if event["kind"] in MILESTONES:
            self._line(milestone_text(event, left))
        elif self._last_line_at is None or self.clock() - self._last_line_at >= QUIET_S:
            self._line("  ".join(figures(self._latest, left)))

    def leave(self) -> None:
        """End in good order: each line is already whole."""

    def _line(self, text: str) -> None:
        self._last_line_at = self.clock()
        self.out.write(f"{printable(text)}\n")
        self.out.flush()
