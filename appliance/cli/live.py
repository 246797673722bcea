"""A job on a terminal: bar, curve, figures and the last milestones, drawn anew with each event.

Loss and held-out bits per byte are as the job tells them; the share of the machine's peak is asked for at
milestones only, since each such question is a decision in the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from appliance.cli.curve import BLOCKS, PLAIN, curve_lines
from appliance.cli.output import printable
from appliance.cli.progress import ENDS, MILESTONES, Pace, bar_text, duration_text, milestone_text

ROWS = 8
LATEST = 5
_COLOURS = {"done": "green", "failed": "red", "stopped": "yellow"}


class Screen:
    """Shows one job's events; `share` asks for the share of the peak, "" where it is not to be known."""

    def __init__(self, job: str, on: Console, share: Callable[[], str]) -> None:
        """Draw nothing yet."""
        self._job = job
        self._on = on
        self._ask = share
        self._share = ""
        self._pace = Pace()
        self._latest: dict[str, Any] = {"kind": "waiting"}
        self._losses: list[tuple[float, float]] = []
        self._best: float | None = None
        self._told: deque[str] = deque(maxlen=LATEST)
        self._live = Live(console=on, auto_refresh=False, transient=False)
        self._live.start()

    def show(self, event: Mapping[str, Any]) -> None:
        """Take an event in and draw."""
        self._latest.update({name: value for name, value in event.items() if value is not None})
        self._pace.note(event)
        if (loss := event.get("loss")) is not None:
            self._losses.append((float(event["step"]), float(loss)))
        if (bits := event.get("bits_per_byte")) is not None:
            self._best = bits if self._best is None else min(self._best, bits)
        if event["kind"] in MILESTONES:
            self._told.append(milestone_text(event))
            if event["kind"] not in ENDS:
                self._share = self._ask() or self._share
        self._live.update(self._drawn(), refresh=True)
        if event["kind"] in ENDS:
            self.leave()

    def leave(self) -> None:
        """Leave the last picture standing, the cursor below it."""
        self._live.stop()

    def _drawn(self) -> Group:
        said, width = self._latest, self._on.width
        step, steps = int(said["step"]), int(said["steps"])
        state = str(said["kind"]) if said["kind"] in ENDS else "at work"
        head = Text(f"{printable(self._job)}  {state}", style=_COLOURS.get(state, "bold"))
        percent = f"{100 * step // steps} %" if steps else ""
        bar = Text(f"{bar_text(step, steps)}  step {step:,} of {steps:,}  {percent}")
        blocks = BLOCKS if "utf" in self._on.encoding.lower() else PLAIN
        curve = [Text(line, style="cyan") for line in curve_lines(self._losses, width - 1, ROWS, blocks)]
        told = [Text(printable(line), style="dim") for line in self._told]
        lines = [head, bar, *self._figures(), *curve, *told]
        for line in lines:
            line.truncate(width - 1)
        return Group(*lines)

    def _figures(self) -> list[Text]:
        said = self._latest
        parts = [
            ("loss", f"{said['loss']:.3f} nats/token" if "loss" in said else ""),
            ("held out", f"{said['bits_per_byte']:.3f} bits/byte" if "bits_per_byte" in said else ""),
            ("best", f"{self._best:.3f}" if self._best is not None else ""),
            ("tokens/s", f"{said['tokens_per_s']:,.0f}" if "tokens_per_s" in said else ""),
            ("of peak", self._share),
            ("left", duration_text(self._pace.left_s) if self._pace.left_s is not None else ""),
        ]
        shown = [f"{name} {value}" for name, value in parts if value]
        return [Text("  ".join(shown[begin : begin + 3])) for begin in range(0, len(shown), 3)]
