"""What a run remembers of its losses: whether one is a spike, and whether evaluations still gain.

A value, kept in the metadata of a checkpoint to the last bit, so that a resumed run judges as one that was
never stopped.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from appliance.errors import ContentRefused

_MEMORY = 0.98  # tuning: the running mean of the loss looks back some fifty steps
_FIELDS = 4


@dataclass(frozen=True, slots=True)
class Watch:
    """Running mean of the loss (nats per token, 0 before the first step) and the best evaluation so far."""

    mean_loss: float = 0.0
    best: float = math.inf  # bits per byte
    idle: int = 0  # evaluations since the best
    judged_step: int = -1  # of the last evaluation that counted

    def limit(self, factor: float) -> float:
        """How high a loss may be; infinite without a factor, and before there is a mean."""
        return factor * self.mean_loss if factor and self.mean_loss else math.inf

    def after_step(self, loss: float) -> Watch:
        """Take one more loss into the mean."""
        mean = _MEMORY * self.mean_loss + (1.0 - _MEMORY) * loss if self.mean_loss else loss
        return dataclasses.replace(self, mean_loss=mean)

    def after_evaluation(self, step: int, bits_per_byte: float) -> Watch:
        """Take one more evaluation; the same step counts once."""
        if step <= self.judged_step:
            return self
        if bits_per_byte < self.best:
            return dataclasses.replace(self, best=bits_per_byte, idle=0, judged_step=step)
        return dataclasses.replace(self, idle=self.idle + 1, judged_step=step)

    def encode(self) -> str:
        """One line of text that `parse_watch` reads to the same bits."""
        return f"{self.mean_loss.hex()} {self.best.hex()} {self.idle} {self.judged_step}"


def parse_watch(text: str) -> Watch:
    """Undo `Watch.encode`; raise `ContentRefused` on anything that it does not write."""
    fields = text.split(" ") if len(text) < 200 else []
    try:
        if len(fields) != _FIELDS:
            raise ValueError(len(fields))
        found = Watch(float.fromhex(fields[0]), float.fromhex(fields[1]), int(fields[2]), int(fields[3]))
    except (ValueError, OverflowError) as error:
        raise ContentRefused("checkpoint: expected a watch of four numbers, found something else") from error
    if found.encode() != text or not (
        0 <= found.mean_loss < math.inf and found.best >= 0 and found.idle >= 0
    ):
        raise ContentRefused("checkpoint: expected a watch of four numbers in range, found others")
    return found
