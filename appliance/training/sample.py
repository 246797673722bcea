"""Text from a model, byte by byte: a function of weights, prompt, settings and seed.

The whole window is computed again for each byte (a cache of keys and values belongs to the faster backends).
NUL, which stands between documents, is never drawn, so a sample is one document going on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.errors import UsageError
from appliance.training import randomness
from appliance.training.model import GPT

MAX_LENGTH = 1_000_000


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """`length` in bytes; temperature 0 takes the likeliest byte; top_k 0 considers all bytes."""

    length: int
    temperature: float = 0.8
    top_k: int = 0
    seed: int = 0


def check_settings(settings: SampleSettings) -> None:
    """Raise `UsageError` on a setting out of range."""
    for name, value, low, high in (
        ("length", settings.length, 1, MAX_LENGTH),
        ("temperature", settings.temperature, 0.0, 100.0),
        ("top_k", settings.top_k, 0, 256),
        ("seed", settings.seed, 0, 2**63 - 1),
    ):
        if not low <= value <= high:  # NaN fails this too
            raise UsageError(f"sample: expected {name} from {low} to {high}, found {value}")


def sample(model: GPT, prompt: bytes, settings: SampleSettings) -> Iterator[bytes]:
    """Yield `settings.length` single bytes that continue `prompt`; raise `UsageError` on bad settings."""
    check_settings(settings)
    return _continue(model, prompt, settings)


def _continue(model: GPT, prompt: bytes, settings: SampleSettings) -> Iterator[bytes]:
    T = model.config.context
    arena = model.arena(1, T)
    window = [0, *prompt][-T:]  # a document begins after a NUL
    tokens = np.zeros((1, T), dtype=np.int64)
    for index in range(settings.length):
        tokens[0, : len(window)] = window  # what stands after the window cannot be seen from inside it
        logits = model.forward(arena, tokens)[len(window) - 1].astype(np.float64)
        draw = float(randomness.uniform(settings.seed, randomness.Purpose.SAMPLE, index, 1)[0])
        chosen = choose(logits, draw, settings)
        yield bytes([chosen])
        window = [*window, chosen][-T:]


def choose(logits: npt.NDArray[np.float64], draw: float, settings: SampleSettings) -> int:
    """Pick a byte from logits (V,): `draw` in (0, 1) is looked up in the cumulative distribution."""
    logits = logits.copy()
    logits[0] = -np.inf
    if settings.temperature == 0.0:
        return int(np.argmax(logits))
    if 0 < settings.top_k < logits.size:
        logits[np.argsort(-logits, kind="stable")[settings.top_k :]] = -np.inf
    chances = np.exp((logits - logits.max()) / settings.temperature)
    reached = np.cumsum(chances)
    return min(int(np.searchsorted(reached, draw * reached[-1], side="right")), logits.size - 1)
