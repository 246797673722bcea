"""The reference backend: NumPy, float32 or float64, the definition of correct for every other backend.

Each op stands beside its derivative. Float64 exists for the tests, which compare every backward with finite
differences. The conventions (who owns arrays, what is written and what is added to) are in `kernels.table`.
It is written to be read, and tuned only where a loop over tiles keeps temporaries inside the cache.

Sources: Vaswani et al. 2017 (attention), Ba et al. 2016 (layer norm), Hendrycks & Gimpel 2016 (GELU),
Dao et al. 2022 (attention from the saved log-sum-exp), Loshchilov & Hutter 2019 (AdamW).

Shapes: B batch, T time, C width, H heads, D = C/H, V vocabulary, N = B·T rows, I inputs, O outputs.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kernels.table import Floats, Integers

NAME = "reference"
LANES = 4  # tuning: enough for 2 to 4 cores, while a lane of a usual batch still fills a matrix product

LAYERNORM_EPSILON = 1e-5
_GELU_SLOPE = math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715

# Tuning, measured on 2 cores of AMD Zen 5 (1 MiB of L2 each): 64 queries by 256 keys by 4 heads in float32
# are 256 KiB, and 32,768 elements 128 KiB, so that a tile and its temporaries stay in L2.
_QUERY_TILE = 64
_ELEMENT_TILE = 32_768


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Floats:
    """Allocate a zeroed array in host memory."""
    return np.zeros(shape, dtype)


# --- embedding -------------------------------------------------------------------------------------------


def embedding_forward(out: Floats, *, tokens: Integers, table: Floats, positions: Floats) -> None:
    """Write table[tokens] + positions[:T] to out (B,T,C); tokens (B, T), table (V, C), positions (≥T, C)."""
    np.take(table, tokens, axis=0, out=out, mode="clip")
    out += positions[: tokens.shape[1]]


def embedding_backward(dtable: Floats, dpositions: Floats, *, dout: Floats, tokens: Integers) -> None:
    """Add to dtable (V, C) and dpositions (≥T, C) from dout (B, T, C).

    A token that occurs often gets the sum of its rows in the order of a stable sort, so the sum is the same
    bits in every run; a scatter-add would not promise that.
    """
    dpositions[: tokens.shape[1]] += dout.sum(axis=0)
    flat = tokens.ravel()
    order = np.argsort(flat, kind="stable")
    present, starts = np.unique(flat[order], return_index=True)
    rows = dout.reshape(flat.size, -1)[order]
    dtable[present] += np.add.reduceat(rows, starts, axis=0)


# --- layer norm ------------------------------------------------------------------------------------------


def layernorm_forward(
    out: Floats, mean: Floats, rstd: Floats, *, x: Floats, weight: Floats, bias: Floats
) -> None:
    """Write (x - mean) · rstd · weight + bias to out (N, C); mean and rstd (N,) are kept for the backward.

    The variance is the biased one, with ε = 1e-5 under the root (Ba et al. 2016, eq. 3).
    """
    np.mean(x, axis=1, out=mean)
    np.subtract(x, mean[:, None], out=out)
    np.einsum("nc,nc->n", out, out, out=rstd)
    rstd /= x.shape[1]
    rstd += LAYERNORM_EPSILON
    np.sqrt(rstd, out=rstd)
    np.reciprocal(rstd, out=rstd)
    out *= rstd[:, None]
    out *= weight
    out += bias


def layernorm_backward(
    dx: Floats,
    dweight: Floats,
    dbias: Floats,
    *,
    dout: Floats,
    x: Floats,
    weight: Floats,
    mean: Floats,
    rstd: Floats,
) -> None:
    """Write dx (N, C), add to dweight and dbias (C,).

    With n = (x - mean) · rstd and g = dout · weight:  dx = rstd · (g - mean(g) - n · mean(g · n)).
    """
    width = x.shape[1]
    normal = x - mean[:, None]
    normal *= rstd[:, None]
    dbias += dout.sum(axis=0)
    np.multiply(dout, normal, out=dx)
    dweight += dx.sum(axis=0)
    np.multiply(dout, weight, out=dx)
    along = np.einsum("nc,nc->n", dx, normal)
    along /= width
    normal *= along[:, None]
    dx -= dx.mean(axis=1, keepdims=True)
    dx -= normal
    dx *= rstd[:, None]


# --- linear ----------------------------------------------------------------------------------------------


def linear_forward(out: Floats, *, x: Floats, weight: Floats, bias: Floats | None) -> None:
    """Write x (N, I) · weight (I, O) + bias (O,) to out (N, O)."""
    np.matmul(x, weight, out=out)
    if bias is not None:
        out += bias


def linear_backward(
    dx: Floats, dweight: Floats, dbias: Floats | None, *, dout: Floats, x: Floats, weight: Floats
) -> None:
    """Write dx (N, I) = dout · weightᵀ, add xᵀ · dout to dweight (I, O) and the column sums to dbias."""
    dweight += x.T @ dout
    if dbias is not None:
        dbias += dout.sum(axis=0)
    np.matmul(dout, weight.T, out=dx)


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


# --- GELU ------------------------------------------------------------------------------------------------


def gelu_forward(out: Floats, *, x: Floats) -> None:
    """Write x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), any shape (Hendrycks & Gimpel 2016, section 2)."""
    flat_out, flat_x = out.reshape(-1), x.reshape(-1)
    for start in range(0, flat_x.size, _ELEMENT_TILE):
        tile = flat_x[start : start + _ELEMENT_TILE]
        bent = _gelu_tanh(tile)
        bent += 1.0
        bent *= tile
        np.multiply(bent, 0.5, out=flat_out[start : start + _ELEMENT_TILE])


def gelu_backward(dx: Floats, *, dout: Floats, x: Floats) -> None:
    """Write dout · (½(1+t) + ½x(1-t²)·√(2/π)·(1 + 3·0.044715·x²)), t the tanh of the forward, to dx.

    dx may be dout itself.
    """
    flat_dx, flat_dout, flat_x = dx.reshape(-1), dout.reshape(-1), x.reshape(-1)
    for start in range(0, flat_x.size, _ELEMENT_TILE):
        span = slice(start, start + _ELEMENT_TILE)
        tile = flat_x[span]
        bent = _gelu_tanh(tile)
        slope = tile * tile
        slope *= 3.0 * _GELU_CUBIC * _GELU_SLOPE
        slope += _GELU_SLOPE
        slope *= tile
        slope *= 1.0 - bent
        slope += 1.0
        bent += 1.0
        slope *= bent
        slope *= 0.5
        np.multiply(flat_dout[span], slope, out=flat_dx[span])


def _gelu_tanh(x: Floats) -> Floats:
    bent = x * x
    bent *= _GELU_CUBIC
    bent += 1.0
    bent *= x
    bent *= _GELU_SLOPE
    return np.tanh(bent, out=bent)


# --- residual --------------------------------------------------------------------------------------------


def residual_forward(out: Floats, *, x: Floats, branch: Floats) -> None:
    """Write x + branch to out, any shape; out may be either."""
    np.add(x, branch, out=out)


def residual_backward(dx: Floats, *, dbranch_input: Floats) -> None:
    """Add dbranch_input to dx: the stream feeds both the sum and the branch, so its gradient is both."""
    np.add(dx, dbranch_input, out=dx)


# --- loss ------------------------------------------------------------------------------------------------


def softmax_cross_entropy_forward(losses: Floats, lse: Floats, *, logits: Floats, targets: Integers) -> None:
    """Write lse - logits[target] in nats to losses (N,) and log Σ exp(logits) to lse (N,); logits (N, V)."""
    peak = logits.max(axis=1)
    np.log(np.exp(logits - peak[:, None]).sum(axis=1), out=lse)
    lse += peak
    np.subtract(lse, logits[np.arange(targets.size), targets], out=losses)


def softmax_cross_entropy_backward(
    dlogits: Floats, *, logits: Floats, lse: Floats, targets: Integers, scale: float
) -> None:
    """Write scale · (softmax(logits) - onehot(target)) to dlogits (N, V), which may be logits itself."""
    np.subtract(logits, lse[:, None], out=dlogits)
    np.exp(dlogits, out=dlogits)
    dlogits[np.arange(targets.size), targets] -= 1.0
    dlogits *= scale


# --- optimizer -------------------------------------------------------------------------------------------


def global_norm(gradients: Floats) -> float:
    """√Σg² of a flat buffer, summed in float64; not finite exactly when some element, or the sum, is not."""
    return math.sqrt(float(np.square(gradients, dtype=np.float64).sum()))


def adamw_step(
    parameters: Floats,
    first: Floats,
    second: Floats,
    *,
    gradients: Floats,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    gradient_scale: float,
) -> None:
    """Update flat buffers in place; step counts from 0, g = gradient_scale · gradients.

    m ← β₁m + (1-β₁)g;  v ← β₂v + (1-β₂)g²;  p ← p - η·(λ·p + m̂/(√v̂ + ε))  with m̂ = m/(1-β₁ᵗ),
    v̂ = v/(1-β₂ᵗ), t = step + 1  (Loshchilov & Hutter 2019, algorithm 2, without the schedule multiplier).
    """
    rate = learning_rate / (1.0 - beta1 ** (step + 1))
    spread = 1.0 / (1.0 - beta2 ** (step + 1))
    for start in range(0, parameters.size, _ELEMENT_TILE):
        span = slice(start, start + _ELEMENT_TILE)
        p, m, v, g = parameters[span], first[span], second[span], gradients[span] * gradient_scale
        m *= beta1
        m += (1.0 - beta1) * g
        v *= beta2
        g *= g
        g *= 1.0 - beta2
        v += g
        np.multiply(v, spread, out=g)
        np.sqrt(g, out=g)
        g += epsilon
        np.divide(m, g, out=g)
        g *= rate
        p *= 1.0 - learning_rate * weight_decay
        p -= g
