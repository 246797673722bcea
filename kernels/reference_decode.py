"""One token through a whole decoder with cached keys and values: the reference, by the reference's own ops.

The same arithmetic as a full forward pass on all tokens, of which only the newest row is computed: causal
attention lets no earlier row depend on it. Shapes as in `kernels.decode`.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from kernels.decode import BlockWeights, DecoderWeights, Step, Weights


class RowOps(Protocol):
    """The ops that work on each row alone, as `kernels.table.Backend` has them."""

    def layernorm_forward(
        self, out: Weights, mean: Weights, rstd: Weights, *, x: Weights, weight: Weights, bias: Weights
    ) -> None:
        """Normalise each row, then scale and shift."""

    def rmsnorm_forward(self, out: Weights, rstd: Weights, *, x: Weights, weight: Weights) -> None:
        """Divide each row by its root mean square, then scale."""

    def gelu_forward(self, out: Weights, *, x: Weights) -> None:
        """GELU, tanh form."""

    def swiglu_forward(self, out: Weights, *, x: Weights) -> None:
        """SiLU of the first half of each row times the second half."""


def decoder(weights: DecoderWeights, keys: Weights, values: Weights, ops: RowOps) -> Step:
    """Return the step of a decoder over caches (L, H, D, T) and (L, H, T, D), which it fills."""

    def step(logits: Weights, token: int, position: int) -> None:
        x = weights.table[token][None].copy()
        if weights.positions is not None:
            x += weights.positions[position]
        for layer, block in enumerate(weights.blocks):
            normal = _norm(ops, x, block.norm_1_weight, block.norm_1_bias)
            qkv = normal @ block.qkv_weight + block.qkv_bias
            attended = _attend(weights, qkv, keys[layer], values[layer], position)
            x += attended @ block.out_weight + block.out_bias
            x += _mlp(ops, weights, block, _norm(ops, x, block.norm_2_weight, block.norm_2_bias))
        logits[...] = (_norm(ops, x, weights.norm_weight, weights.norm_bias) @ weights.head.T)[0]

    return step


def _attend(weights: DecoderWeights, qkv: Weights, keys: Weights, values: Weights, position: int) -> Weights:
    """Put this position's key and value into the caches; return the heads' outputs (1, C)."""
    H = weights.heads
    query, key, value = qkv.reshape(3, H, -1)
    if weights.positions is None:
        query, key = (
            _turn(part, weights.cosines[position], weights.sines[position]) for part in (query, key)
        )
    keys[:, :, position], values[:, position] = key, value
    scores = np.einsum("hd,hdt->ht", query, keys[:, :, : position + 1]) / math.sqrt(query.shape[-1])
    chances = np.exp(scores - scores.max(axis=-1, keepdims=True))
    chances /= chances.sum(axis=-1, keepdims=True)
    attended: Weights = np.einsum("ht,htd->hd", chances, values[:, : position + 1]).reshape(1, -1)
    return attended


def _turn(part: Weights, cosines: Weights, sines: Weights) -> Weights:
    """Rotate the pairs (d, d + D/2) of every head (H, D), as `reference_attention.rotary_forward` does."""
    first, second = np.split(part, 2, axis=-1)
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _mlp(ops: RowOps, weights: DecoderWeights, block: BlockWeights, x: Weights) -> Weights:
    wide = x @ block.up_weight + block.up_bias
    hidden = np.empty((1, len(block.down_weight)), x.dtype)
    if weights.swiglu:
        ops.swiglu_forward(hidden, x=wide)
    else:
        ops.gelu_forward(hidden, x=wide)
    out: Weights = hidden @ block.down_weight + block.down_bias
    return out


def _norm(ops: RowOps, x: Weights, weight: Weights, bias: Weights | None) -> Weights:
    out, mean, rstd = np.empty_like(x), np.empty(1, x.dtype), np.empty(1, x.dtype)
    if bias is None:
        ops.rmsnorm_forward(out, rstd, x=x, weight=weight)
    else:
        ops.layernorm_forward(out, mean, rstd, x=x, weight=weight, bias=bias)
    return out
