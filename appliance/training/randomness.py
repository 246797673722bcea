"""Random numbers that depend on a seed, a purpose and a counter, and on nothing that happened before.

So the state of a run is its step number: who knows the seed can recompute any draw of any step. Built on the
raw output of Philox 4x64-10 (Salmon et al. 2011), which NumPy keeps stable over its versions; NumPy's own
distributions are not (NEP 19), so the few that we need are made here.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """Separates streams of one seed: a draw for one purpose tells nothing about another's."""

    INITIAL_WEIGHTS = 1
    SHUFFLE = 2
    SAMPLE = 3
    SHIFT = 4
    MIXTURE = 5


def raw(seed: int, purpose: Purpose, counter: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` words of 64 bits: the stream of (seed, purpose) at `counter`."""
    generator = np.random.Philox(key=[seed, int(purpose)], counter=[0, 0, counter, 0])
    return np.asarray(generator.random_raw(count), dtype=np.uint64)


def integers(seed: int, purpose: Purpose, counter: int, *, count: int, below: int) -> list[int]:
    """`count` integers in [0, below): the high word of raw · below (bias under below / 2⁶⁴)."""
    return [(int(word) * below) >> 64 for word in raw(seed, purpose, counter, count)]


def uniform(seed: int, purpose: Purpose, counter: int, count: int) -> npt.NDArray[np.float64]:
    """`count` float64 in (0, 1): odd multiples of 2⁻⁵⁴, so neither end occurs."""
    high = (raw(seed, purpose, counter, count) >> np.uint64(11)).astype(np.float64)
    return (high + 0.5) * 2.0**-53


def normal(seed: int, purpose: Purpose, counter: int, count: int) -> npt.NDArray[np.float64]:
    """`count` standard normal float64 (Box & Muller 1958)."""
    half = (count + 1) // 2
    draws = uniform(seed, purpose, counter, 2 * half)
    radius = np.sqrt(-2.0 * np.log(draws[:half]))
    angle = 2.0 * np.pi * draws[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
