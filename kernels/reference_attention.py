"""Attention and rotary positions of the reference backend: how a token sees those before it.

Sources: Vaswani et al. 2017 (attention), Dao et al. 2022 (its backward from the saved log-sum-exp), Su et al.
2021 (rotary positions). The conventions are in `kernels.table`.

Shapes: B batch, T time, C width, H heads, D = C/H.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kernels.table import Floats

# Tuning, measured on 2 cores of AMD Zen 5 (1 MiB of L2 each): 64 queries by 256 keys by 4 heads in float32
# are 256 KiB, so that a tile and its temporaries stay in L2.
_QUERY_TILE = 64


# --- rotary positions ------------------------------------------------------------------------------------


def rotary_forward(qkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
    """Turn Q and K in qkv (B, T, 3·C) by the angle of their position, in place; V stays.

    In each head, channels j and j + D/2 are the two axes of plane j (GPT-NeoX's pairing of Su et al. 2021,
    eq. 34):  (a, b) → (a·cos - b·sin, a·sin + b·cos)  with row t of cosines and sines (≥T, D/2).
    """
    _rotate(qkv, cosines, sines, heads)


def rotary_backward(dqkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
    """Turn the gradients of Q and K back, in place: the inverse of a rotation is its transpose."""
    _rotate(dqkv, cosines, -sines, heads)


def _rotate(packed: Floats, cosines: Floats, sines: Floats, heads: int) -> None:
    T = packed.shape[1]
    cosines, sines = cosines[:T], sines[:T]
    for part in _heads(packed, heads, 3)[:2]:
        half = part.shape[-1] // 2
        first, second = part[..., :half], part[..., half:]
        turned = first * sines
        turned += second * cosines
        first *= cosines
        first -= second * sines
        second[...] = turned


# --- attention -------------------------------------------------------------------------------------------


def attention_forward(out: Floats, lse: Floats, *, qkv: Floats, heads: int) -> None:
    """Causal softmax(Q·Kᵀ/√D)·V per head into out (B, T, C), qkv (B, T, 3·C) holds Q, K and V side by side.

    lse (B, H, T), the log-sum-exp of each row of scores, is all that the backward needs besides. Queries go
    in tiles, so that keys after the tile are never computed.
    """
    query, key, value = _heads(qkv, heads, 3)
    (result,) = _heads(out, heads, 1)
    scale = 1.0 / math.sqrt(query.shape[-1])
    for start, stop in _tiles(qkv.shape[1]):
        scores = query[:, :, start:stop] @ key[:, :, :stop].swapaxes(2, 3)
        scores *= scale
        scores[..., start:] += _causal(stop - start, scores.dtype)
        peak = scores.max(axis=3, keepdims=True)
        scores -= peak
        np.exp(scores, out=scores)
        total = scores.sum(axis=3, keepdims=True)
        result[:, :, start:stop] = (scores @ value[:, :, :stop]) / total
        lse[:, :, start:stop] = (np.log(total) + peak)[..., 0]


def attention_backward(
    dqkv: Floats, *, dout: Floats, out: Floats, lse: Floats, qkv: Floats, heads: int
) -> None:
    """Write dqkv (B, T, 3·C), recomputing the probabilities P = exp(Q·Kᵀ/√D - lse) tile by tile.

    dV = Pᵀ·dO;  dS = P ∘ (dO·Vᵀ - rowsum(dO ∘ O));  dQ = dS·K/√D;  dK = dSᵀ·Q/√D  (Dao et al. 2022, B.2).
    """
    query, key, value = _heads(qkv, heads, 3)
    dquery, dkey, dvalue = _heads(dqkv, heads, 3)
    (result,), (dresult,) = _heads(out, heads, 1), _heads(dout, heads, 1)
    scale = 1.0 / math.sqrt(query.shape[-1])
    dkey[...] = 0.0
    dvalue[...] = 0.0
    for start, stop in _tiles(qkv.shape[1]):
        rows, past = np.s_[:, :, start:stop], np.s_[:, :, :stop]
        chance = query[rows] @ key[past].swapaxes(2, 3)
        chance *= scale
        chance[..., start:] += _causal(stop - start, chance.dtype)
        chance -= lse[rows][..., None]
        np.exp(chance, out=chance)
        dvalue[past] += chance.swapaxes(2, 3) @ dresult[rows]
        slope = dresult[rows] @ value[past].swapaxes(2, 3)
        slope -= (dresult[rows] * result[rows]).sum(axis=3, keepdims=True)
        slope *= chance
        slope *= scale
        np.matmul(slope, key[past], out=dquery[rows])
        dkey[past] += slope.swapaxes(2, 3) @ query[rows]


def _heads(packed: Floats, heads: int, parts: int) -> list[Floats]:
    """View (B, T, parts·C) as `parts` arrays (B, H, T, D) without copying."""
    B, T, width = packed.shape
    split = packed.reshape(B, T, parts, heads, width // (parts * heads))
    return [split[:, :, part].swapaxes(1, 2) for part in range(parts)]


def _tiles(length: int) -> list[tuple[int, int]]:
    return [(start, min(start + _QUERY_TILE, length)) for start in range(0, length, _QUERY_TILE)]


def _causal(size: int, dtype: npt.DTypeLike) -> Floats:
    """-inf above the diagonal (size, size): a query sees no key after itself."""
    return np.triu(np.full((size, size), -np.inf, dtype), 1)
