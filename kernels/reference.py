"""The reference backend: NumPy, float32 or float64, the definition of correct for every other backend.

Each op stands beside its derivative. Float64 exists for the tests, which compare every backward with finite
differences. The conventions (who owns arrays, what is written and what is added to) are in `kernels.table`.
It is written to be read, and tuned only where a loop over tiles keeps temporaries inside the cache.

Sources: Ba et al. 2016 (layer norm), Zhang & Sennrich 2019 (RMS norm), Hendrycks & Gimpel 2016 (GELU),
Shazeer 2020 (SwiGLU), Srivastava et al. 2014 (dropout), Loshchilov & Hutter 2019 (AdamW); for attention and
rotary positions see `kernels.reference_attention`.

Shapes: B batch, T time, C width, F hidden width, V vocabulary, N = B·T rows, I inputs, O outputs.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Hashable
from typing import cast

import numpy as np
import numpy.typing as npt

from kernels import reference_attention, reference_decode
from kernels.decode import DecoderWeights, Step
from kernels.philox import philox
from kernels.table import Floats, Integers

NAME = "reference"
PRECISIONS: tuple[str, ...] = ("fp32",)
LANES = 4  # tuning: enough for 2 to 4 cores, while a lane of a usual batch still fills a matrix product

LAYERNORM_EPSILON = 1e-5
RMSNORM_EPSILON = 1e-5
_GELU_SLOPE = math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715

# Tuning, measured on 2 cores of AMD Zen 5 (1 MiB of L2 each): 32,768 elements in float32 are 128 KiB, so that
# a tile and its temporaries stay in L2.
_ELEMENT_TILE = 32_768

rotary_forward = reference_attention.rotary_forward
rotary_backward = reference_attention.rotary_backward
attention_forward = reference_attention.attention_forward
attention_backward = reference_attention.attention_backward


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Floats:
    """Allocate a zeroed array in host memory."""
    return np.zeros(shape, dtype)


def room() -> int | None:
    """Return None: arrays lie in the host's memory."""
    return None


def bring(name: str, array: Integers) -> Integers:
    """Return the array: it lies where it is read."""
    del name
    return array


def repeat(key: Hashable, run: Callable[[], None]) -> None:
    """Run the ops."""
    del key
    run()


def widen(out: Floats, *, x: Floats) -> None:
    """Write x to out; the reference knows no bf16."""
    out[...] = x


# --- embedding -------------------------------------------------------------------------------------------


def embedding_forward(out: Floats, *, tokens: Integers, table: Floats, positions: Floats | None) -> None:
    """Write table[tokens] + positions[:T] to out (B,T,C); tokens (B, T), table (V, C), positions (≥T, C).

    Without a table of positions (None: they are rotary), only the rows of the tokens.
    """
    np.take(table, tokens, axis=0, out=out, mode="clip")
    if positions is not None:
        out += positions[: tokens.shape[1]]


def embedding_backward(dtable: Floats, dpositions: Floats | None, *, dout: Floats, tokens: Integers) -> None:
    """Add to dtable (V, C) and dpositions (≥T, C) from dout (B, T, C).

    A token that occurs often gets the sum of its rows in the order of a stable sort, so the sum is the same
    bits in every run; a scatter-add would not promise that.
    """
    if dpositions is not None:
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


def layernorm_residual_backward(
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
    """Add what `layernorm_backward` writes to dx."""
    branch = np.empty_like(dx)
    layernorm_backward(branch, dweight, dbias, dout=dout, x=x, weight=weight, mean=mean, rstd=rstd)
    residual_backward(dx, dbranch_input=branch)


# --- RMS norm --------------------------------------------------------------------------------------------


def rmsnorm_forward(out: Floats, rstd: Floats, *, x: Floats, weight: Floats) -> None:
    """Write x · rstd · weight to out (N, C); rstd (N,) = 1/√(mean(x²) + 1e-5) is kept for the backward.

    Zhang & Sennrich 2019, eq. 4, with ε under the root.
    """
    np.einsum("nc,nc->n", x, x, out=rstd)
    rstd /= x.shape[1]
    rstd += RMSNORM_EPSILON
    np.sqrt(rstd, out=rstd)
    np.reciprocal(rstd, out=rstd)
    np.multiply(x, rstd[:, None], out=out)
    out *= weight


def rmsnorm_backward(
    dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
) -> None:
    """Write dx (N, C), add to dweight (C,).

    With n = x · rstd and g = dout · weight:  dx = rstd · (g - n · mean(g · n)).
    """
    normal = x * rstd[:, None]
    np.multiply(dout, normal, out=dx)
    dweight += dx.sum(axis=0)
    np.multiply(dout, weight, out=dx)
    along = np.einsum("nc,nc->n", dx, normal)
    along /= x.shape[1]
    normal *= along[:, None]
    dx -= normal
    dx *= rstd[:, None]


def rmsnorm_residual_backward(
    dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
) -> None:
    """Add what `rmsnorm_backward` writes to dx."""
    branch = np.empty_like(dx)
    rmsnorm_backward(branch, dweight, dout=dout, x=x, weight=weight, rstd=rstd)
    residual_backward(dx, dbranch_input=branch)


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


def linear_gelu_forward(out: Floats, wide: Floats, *, x: Floats, weight: Floats, bias: Floats | None) -> None:
    """Write x · weight + bias to wide and its GELU to out (N, O)."""
    linear_forward(wide, x=x, weight=weight, bias=bias)
    gelu_forward(out, x=wide)


def gelu_linear_backward(
    dx: Floats,
    dweight: Floats,
    dbias: Floats | None,
    *,
    dout: Floats,
    x: Floats,
    wide: Floats,
    weight: Floats,
) -> None:
    """`linear_backward` for x = gelu(wide) (N, I), with the gradient of wide in dx."""
    linear_backward(dx, dweight, dbias, dout=dout, x=x, weight=weight)
    gelu_backward(dx, dout=dx, x=wide)


def linear_residual_forward(
    out: Floats, *, x: Floats, weight: Floats, bias: Floats | None, residual: Floats
) -> None:
    """Write residual + x · weight + bias to out (N, O), which is not residual."""
    linear_forward(out, x=x, weight=weight, bias=bias)
    residual_forward(out, x=residual, branch=out)


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


# --- SwiGLU ----------------------------------------------------------------------------------------------


def swiglu_forward(out: Floats, *, x: Floats) -> None:
    """Write silu(gate) · up to out (N, F), x (N, 2·F) holding gate and up side by side.

    silu(a) = a/(1 + e⁻ᵃ)  (Shazeer 2020, eq. 5, without biases of its own).
    """
    hidden = out.shape[1]
    gate, up = x[:, :hidden], x[:, hidden:]
    np.multiply(gate, _sigmoid(gate), out=out)
    out *= up


def swiglu_backward(dx: Floats, *, dout: Floats, x: Floats) -> None:
    """Write dx (N, 2·F) from dout (N, F):  dup = dout·silu(gate);  dgate = dout·up·s·(1 + gate·(1 - s)).

    s is the sigmoid of gate.
    """
    hidden = dout.shape[1]
    gate, up = x[:, :hidden], x[:, hidden:]
    chance = _sigmoid(gate)
    np.multiply(gate, chance, out=dx[:, hidden:])
    dx[:, hidden:] *= dout
    slope = 1.0 - chance
    slope *= gate
    slope += 1.0
    slope *= chance
    slope *= up
    np.multiply(dout, slope, out=dx[:, :hidden])


def _sigmoid(x: Floats) -> Floats:
    """1/(1 + e⁻ˣ) as ½(1 + tanh(x/2)), which no x makes overflow."""
    bent = x * 0.5
    np.tanh(bent, out=bent)
    bent += 1.0
    bent *= 0.5
    return bent


# --- dropout ---------------------------------------------------------------------------------------------


def dropout_forward(
    out: Floats, *, x: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
) -> None:
    """Write x / (1 - chance) where an element is kept and 0 where it is dropped, (N, C); out may be x.

    Element (n, c) looks at word c mod 4 of Philox 4x32-10 (`kernels.philox`) at the counter
    (⌊c/4⌋, first_row + n, stream, step), all below 2³², under the key `seed` (64 bits), and is kept when the
    word is at least ⌊chance · 2³²⌋. So a mask is a function of its place alone: rows may be cut among
    threads and micro-batches at will, and every backend drops the same elements.
    """
    kept = _kept(x.shape, chance, seed, step, stream, first_row)
    np.multiply(x, 1.0 / (1.0 - chance), out=out)
    np.copyto(out, 0.0, where=~kept)


def dropout_backward(
    dx: Floats, *, dout: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
) -> None:
    """Write dout / (1 - chance) where the forward kept and 0 elsewhere; the mask is drawn again."""
    dropout_forward(dx, x=dout, chance=chance, seed=seed, step=step, stream=stream, first_row=first_row)


def _kept(
    shape: tuple[int, ...], chance: float, seed: int, step: int, stream: int, first_row: int
) -> npt.NDArray[np.bool_]:
    rows, columns = shape
    words = philox(
        (
            np.arange((columns + 3) // 4, dtype=np.uint64),
            np.arange(first_row, first_row + rows, dtype=np.uint64)[:, None],
            np.asarray(stream, np.uint64),
            np.asarray(step, np.uint64),
        ),
        seed,
    )
    return words.reshape(rows, -1)[:, :columns] >= np.uint64(int(chance * 2**32))


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


# --- decoding --------------------------------------------------------------------------------------------


def decoder(weights: DecoderWeights, keys: Floats, values: Floats) -> Step:
    """Return the step of a decoder over its caches; see `kernels.reference_decode`."""
    ops = cast("reference_decode.RowOps", sys.modules[__name__])
    return reference_decode.decoder(weights, keys, values, ops)
