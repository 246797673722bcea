"""What a worker tells of its run, as far as people and the catalog hear it: a narrow channel on purpose.

A captured worker holds weights and text, and its numbers are read by people who may see neither. So steps
rise and stay within the run, whose length is said once; figures are clamped and keep four digits; and beyond
`BURST` events at once, `EVENTS_PER_S` are passed on. What is held back is told later or never, but the last
evaluation always is. KNOWN: within that, what the figures say is the worker's word.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from appliance.custodian.jobs import Run
from appliance.errors import ProtocolError
from appliance.worklink import Progress

BURST = 100
EVENTS_PER_S = 3.0  # a worker tells two a second, and each evaluation
MAX_STEPS = 10**9
DIGITS = 4
# What no run that learns anything goes beyond.
_MOST = {"loss": 100.0, "bits_per_byte": 100.0, "learning_rate": 1.0, "tokens_per_s": 1e10}


class Telling:
    """The figures of one run, passed on to whoever watches."""

    def __init__(self, run: Run, steps: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin for a run of `steps`, 0 where that is not known yet."""
        self.steps = steps
        self._run = run
        self._monotonic = monotonic
        self._next = -1  # the first step that may be told
        self._next_checkpoint = -1
        self._left, self._filled = float(BURST), monotonic()
        self._held: Progress | None = None

    def began(self, step: int) -> None:
        """Take note of the step that the run begins after."""
        self._next = self._next_checkpoint = step

    def take(self, message: Progress) -> Progress:
        """Return the message as it may be known, and tell it, now or later; raises ProtocolError."""
        known = bounded(message)
        self._check_step(message.step, self._next)
        if not 0 < message.steps <= MAX_STEPS or message.steps != (self.steps or message.steps):
            raise ProtocolError(f"a training worker said that its {self.steps} steps are {message.steps}")
        if message.step > message.steps:
            raise ProtocolError(f"a training worker told step {message.step} of {message.steps}")
        self.steps, self._next = message.steps, message.step + 1
        self._pass_on(known)
        return known

    def checkpoint(self, step: int) -> None:
        """Hold a checkpoint's step to the order of the run; raises ProtocolError."""
        self._check_step(step, self._next_checkpoint)
        if step > (self.steps or MAX_STEPS):
            raise ProtocolError(f"a training worker made a checkpoint of step {step} of {self.steps}")
        self._next_checkpoint = step + 1

    def end(self) -> None:
        """Tell what is still held back."""
        if self._held is not None:
            self._tell(self._held)
            self._held = None

    @staticmethod
    def _check_step(step: int, least: int) -> None:
        if least < 0:
            raise ProtocolError("a training worker told figures before it said where it begins")
        if step < least:
            raise ProtocolError(f"a training worker told step {step} after one at or beyond it")

    def _pass_on(self, message: Progress) -> None:
        now = self._monotonic()
        self._left = min(BURST, self._left + (now - self._filled) * EVENTS_PER_S)
        self._filled = now
        if self._left >= 1.0:
            self._left -= 1.0
            self._held = None  # its step is past
            self._tell(message)
        elif message.bits_per_byte >= 0 or self._held is None:
            self._held = message

    def _tell(self, message: Progress) -> None:
        figures = {name: figure if (figure := getattr(message, name)) >= 0 else None for name in _MOST}
        kind = "evaluated" if message.bits_per_byte >= 0 else "progress"
        self._run.tell(kind, message.step, message.steps, **figures)


def bounded(message: Progress) -> Progress:
    """Clamp and round every figure; one that does not apply is -1."""
    return replace(
        message,
        loss=_figure(message.loss, _MOST["loss"]),
        bits_per_byte=_figure(message.bits_per_byte, _MOST["bits_per_byte"]),
        learning_rate=_figure(message.learning_rate, _MOST["learning_rate"]),
        tokens_per_s=_figure(message.tokens_per_s, _MOST["tokens_per_s"]),
    )


def _figure(value: float, most: float) -> float:
    if value < 0:
        return -1.0
    value = min(value, most)
    return round(value, DIGITS - 1 - math.floor(math.log10(value))) if value > 0 else 0.0
