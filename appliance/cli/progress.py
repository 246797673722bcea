"""How a running job looks: one line that is redrawn on a terminal, a line every few seconds elsewhere.

Pure but for `Display`, which is given its clock and its stream. Time left is measured from what was
seen here, so a resumed job does not count the steps of its earlier life.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from appliance.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

QUIET_S = 5.0  # between two progress lines where there is no terminal to redraw on
BAR_WIDTH = 24
MILESTONES = frozenset(
    {"started", "computing", "resumed", "damaged", "evaluated", "checkpoint", "stopped", "done", "failed"}
)
ENDS = frozenset({"stopped", "done", "failed"})
ERASE_LINE = "\r\x1b[K"


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
    parts = [f"step {event['step']}/{event['steps']}"]
    if (loss := event.get("loss")) is not None:
        parts.append(f"loss {loss:.3f}")
    if (bits := event.get("bits_per_byte")) is not None:
        parts.append(f"{bits:.3f} bits/byte")
    if (speed := event.get("tokens_per_s")) is not None:
        parts.append(f"{speed:,.0f} tokens/s")
    if time_left_s is not None:
        parts.append(f"{duration_text(time_left_s)} left")
    return parts


@dataclass(slots=True)
class Display:
    """Shows events on `out`, redrawing one line if `redraw`; `clock` gives seconds and only moves forward."""

    out: TextIO
    redraw: bool
    clock: Callable[[], float]
    columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns
    _first: tuple[int, float] | None = field(default=None, init=False)
    _last_line_at: float | None = field(default=None, init=False)
    _latest: dict[str, Any] = field(default_factory=dict, init=False)

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event. The newest loss and evaluation stay visible until newer ones come."""
        self._latest.update({name: value for name, value in event.items() if value is not None})
        left = self._time_left(event)
        if event["kind"] in MILESTONES:
            self._line(self._milestone(event, left))
        elif self.redraw:
            self._redraw(event, left)
        elif self._last_line_at is None or self.clock() - self._last_line_at >= QUIET_S:
            self._line("  ".join(figures(self._latest, left)))

    def leave(self) -> None:
        """Put the cursor below the redrawn line."""
        if self.redraw:
            self._write("\n")

    def _milestone(self, event: Mapping[str, Any], left: float | None) -> str:
        parts = [event["kind"], *figures(event, left if event["kind"] not in ENDS else None)]
        if event["kind"] in ENDS:
            parts.append(f"after {duration_text(event['elapsed_s'])}")
        if (sealed := event.get("object")) is not None:
            parts.append(f"object {sealed}")
        if (reason := event.get("reason")) is not None:
            parts.append(f"({reason})")
        return "  ".join(parts)

    def _time_left(self, event: Mapping[str, Any]) -> float | None:
        step, elapsed = int(event["step"]), float(event["elapsed_s"])
        if self._first is None:
            self._first = (step, elapsed)
        steps_seen, seconds_seen = step - self._first[0], elapsed - self._first[1]
        if steps_seen <= 0 or seconds_seen <= 0:
            return None
        return (int(event["steps"]) - step) * seconds_seen / steps_seen

    def _line(self, text: str) -> None:
        self._last_line_at = self.clock()
        self._write(f"{ERASE_LINE if self.redraw else ''}{printable(text)}\n")

    def _redraw(self, event: Mapping[str, Any], left: float | None) -> None:
        room = self.columns() - 1  # a full line would wrap, and \r return to its second half only
        text = "  ".join(figures(self._latest, left))
        bar = bar_text(int(event["step"]), int(event["steps"]))
        whole = f"{bar} {text}" if len(bar) + 1 + len(text) <= room else text
        self._write(f"{ERASE_LINE}{printable(whole)[:room]}")

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()
