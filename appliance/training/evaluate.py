"""How well a model predicts text it has not seen, in bits per byte.

Every byte of the stream after its first is predicted exactly once, with at least half a context before it
where the stream has that much: windows overlap by half, and only what no earlier window scored counts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from appliance.training.model import GPT, Arena


def bits_per_byte(model: GPT, arena: Arena, stream: npt.NDArray[np.uint8]) -> float:
    """Mean of -log₂ p(byte) over `stream` (uint8, at least 2 bytes), batched as the arena is."""
    B, T = arena.batch, arena.time
    windows = _windows(stream.size - 1, T)
    padded = np.zeros(max(stream.size, T + 1), dtype=np.int64)
    padded[: stream.size] = stream
    nats, count = 0.0, 0
    for first in range(0, len(windows), B):
        group = windows[first : first + B]
        rows = [start for start, _, _ in group] + [0] * (B - len(group))  # surplus rows are not counted
        tokens = np.stack([padded[start : start + T] for start in rows])
        targets = np.stack([padded[start + 1 : start + T + 1] for start in rows])
        losses = model.losses(arena, tokens, targets)
        for row, (_, begin, end) in enumerate(group):
            nats += float(losses[row, begin:end].sum(dtype=np.float64))
            count += end - begin
    return nats / count / math.log(2.0)


def _windows(predictions: int, T: int) -> list[tuple[int, int, int]]:
    """(start, begin, end): the window at `start` counts its positions [begin, end)."""
    windows = [(0, 0, min(T, predictions))]
    done = windows[0][2]
    while done < predictions:
        end = min(done + max(1, T // 2), predictions)
        windows.append((end - T, T - (end - done), T))
        done = end
    return windows
