"""How well a model predicts text it has not seen, in nats per token and bits per byte.

Every token of the stream after its first is predicted exactly once, with at least half a context before it
where the stream has that much: windows overlap by half, and only what no earlier window scored counts. Bits
per byte compare models whatever their tokenizer is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.training.arena import Arena
from appliance.training.data import HeldOut
from appliance.training.model import GPT
from kernels import Integers

Map = Callable[[Callable[[int], float], Iterable[int]], Iterable[float]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The loss on some text: of how many tokens and bytes, and their means."""

    tokens: int
    size_bytes: int
    nats_per_token: float
    bits_per_byte: float


@dataclass(frozen=True, slots=True)
class Window:
    """One context of the stream, from `start`; its predictions [begin, end) count."""

    start: int
    begin: int
    end: int


def evaluate(model: GPT, arenas: Sequence[Arena], text: HeldOut, each: Map = map) -> Evaluation:
    """Predict `text` (at least 2 tokens).

    The windows are dealt to the arenas in turn, and `each` maps over the arenas, perhaps on threads; the sum
    is taken in a fixed order either way.
    """
    T, predicted = arenas[0].time, text.tokens.size - 1
    padded = np.zeros(max(text.tokens.size, T + 1), dtype=np.int64)
    padded[: text.tokens.size] = text.tokens
    windows = cut(predicted, T)

    def nats(lane: int) -> float:
        return _nats(model, arenas[lane], padded, windows[lane :: len(arenas)])

    total = sum(each(nats, range(len(arenas))))
    return Evaluation(predicted, text.size_bytes, total / predicted, total / text.size_bytes / math.log(2.0))


def cut(predictions: int, T: int) -> list[Window]:
    """Windows that together count each of `predictions` once."""
    windows = [Window(0, 0, min(T, predictions))]
    done = windows[0].end
    while done < predictions:
        end = min(done + max(1, T // 2), predictions)
        windows.append(Window(end - T, T - (end - done), T))
        done = end
    return windows


def _nats(model: GPT, arena: Arena, stream: Integers, windows: Sequence[Window]) -> float:
    """Sum of the losses that count, batched as the arena is."""
    B, T, total = arena.batch, arena.time, 0.0
    for first in range(0, len(windows), B):
        group = windows[first : first + B]
        starts = [window.start for window in group] + [0] * (B - len(group))  # surplus rows do not count
        tokens = np.stack([stream[start : start + T] for start in starts])
        targets = np.stack([stream[start + 1 : start + T + 1] for start in starts])
        losses = np.asarray(model.losses(arena, tokens, targets))
        for row, window in enumerate(group):
            total += float(losses[row, window.begin : window.end].sum(dtype=np.float64))
    return total
