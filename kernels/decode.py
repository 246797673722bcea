"""What it takes to run a decoder token by token: its weights side by side, and a step as a value.

Shapes: L blocks, H heads, C width, D = C/H, T context, F hidden width, P outputs of the MLP's first matrix
(F, or 2·F for SwiGLU), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.floating]
Step = Callable[[Weights, int, int], None]
"""`step(logits, token, position)`: writes the logits (V,) that follow `token` (in [0, V)) at `position`
(in [0, T)), given the keys and values of all earlier positions, and adds those of this one."""


@dataclass(frozen=True, slots=True)
class BlockWeights:
    """One pre-norm block; weights act from the right. A norm without bias is an RMS norm."""

    norm_1_weight: Weights  # (C,)
    norm_1_bias: Weights | None
    qkv_weight: Weights  # (C, 3·C)
    qkv_bias: Weights
    out_weight: Weights  # (C, C)
    out_bias: Weights
    norm_2_weight: Weights
    norm_2_bias: Weights | None
    up_weight: Weights  # (C, P)
    up_bias: Weights
    down_weight: Weights  # (F, C)
    down_bias: Weights


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """A whole decoder; without `positions`, queries and keys are turned by cosines and sines (T, D/2)."""

    table: Weights  # (V, C)
    positions: Weights | None  # (T, C)
    cosines: Weights
    sines: Weights
    blocks: tuple[BlockWeights, ...]
    norm_weight: Weights
    norm_bias: Weights | None
    head: Weights  # (V, C)
    heads: int
    swiglu: bool


def cache_shapes(weights: DecoderWeights, context: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the keys (L, H, D, T) and the values (L, H, T, D): each runs along what is summed last."""
    L, H, D = len(weights.blocks), weights.heads, weights.table.shape[1] // weights.heads
    return (L, H, D, context), (L, H, context, D)
