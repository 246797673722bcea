"""Attention of the CUDA sources through the emulated tensor cores, against the float64 reference.

Tolerance, as ‖found - expected‖ / ‖expected‖: qkv are exact in bf16; probabilities and slopes are rounded to
bf16 once as factors and results once more, by 2^-9 at most each time: 5e-3 for the results, 8e-3 for the
gradients, which also see the rounded results.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from kernels import reference
from kernels.cuda import launches
from kernels.errors import ArrayRefused
from tests.kernels.cpu.conftest import off, wide
from tests.kernels.cpu.test_ops import BFLOAT16, Draw

# B, T, H, D: every kernel, lengths around the edges of tiles, widths between those that kernels are made for.
SHAPES = [
    (1, 1, 1, 32),
    (2, 33, 2, 8),
    (1, 131, 1, 32),
    (1, 65, 2, 64),
    (1, 130, 1, 64),
    (1, 31, 1, 72),
    (1, 67, 1, 96),
    (1, 129, 1, 128),
]


def forward(device, qkv, B, T, H, D):
    C, draw = H * D, Draw("bf16")
    out, lse = draw.empty(B, T, C), np.full((B, H, T), np.nan, np.float32)
    how = launches.attention_forward(B=B, T=T, C=C, heads=H)
    device(how, out=out, lse=lse, qkv=qkv, scale=1 / math.sqrt(D), T=T, C=C, heads=H)
    return out, lse


def backward(device, qkv, dout, out, lse, B, T, H, D):
    C, draw = H * D, Draw("bf16")
    dqkv, delta = draw.empty(B, T, 3 * C), np.full((B, H, T), np.nan, np.float32)
    first, keys, queries = launches.attention_backward(B=B, T=T, C=C, heads=H)
    shape = {"T": T, "C": C, "heads": H}
    device(first, delta=delta, dout=dout, out=out, rows=B * T, **shape)
    for how in (keys, queries):
        given = {"dout": dout, "lse": lse, "delta": delta, "qkv": qkv, "scale": 1 / math.sqrt(D)}
        device(how, dqkv=dqkv, **given, **shape)
    return dqkv


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_and_its_gradient(device, shape):
    B, T, H, D = shape
    draw = Draw("bf16")
    qkv, dout = draw.activation(B, T, 3 * H * D), draw.activation(B, T, H * D)
    exact, exact_lse, slope = np.empty((B, T, H * D)), np.empty((B, H, T)), np.empty((B, T, 3 * H * D))
    reference.attention_forward(exact, exact_lse, qkv=wide(qkv), heads=H)
    out, lse = forward(device, qkv, *shape)
    assert off(out, exact) < 5e-3
    assert np.abs(lse - exact_lse).max() < 4e-6 * max(1, np.abs(exact_lse).max())
    reference.attention_backward(slope, dout=wide(dout), out=exact, lse=exact_lse, qkv=wide(qkv), heads=H)
    dqkv = backward(device, qkv, dout, out, lse, *shape)
    for part in range(3):  # of Q, of K, of V
        span = np.s_[..., part * H * D : (part + 1) * H * D]
        if np.abs(slope[span]).max() > 1e-12:  # one key alone: nothing to choose, no gradient
            assert off(np.ascontiguousarray(dqkv[span]), slope[span]) < 8e-3
        else:
            assert np.abs(wide(np.ascontiguousarray(dqkv[span]))).max() < 2e-2


def test_enormous_scores_are_finite(device):
    """Scores of tens of thousands: the maximum is taken away before anything is raised to a power."""
    draw, shape = Draw("bf16"), (1, 70, 1, 32)
    qkv = draw.activation(1, 70, 96)
    qkv.view(np.uint16)[...] += np.uint16(6 << 7)  # times 64
    out, lse = forward(device, qkv, *shape)
    exact, exact_lse = np.empty((1, 70, 32)), np.empty((1, 1, 70))
    reference.attention_forward(exact, exact_lse, qkv=wide(qkv), heads=1)
    assert off(out, exact) < 5e-3
    assert off(lse, exact_lse) < 1e-6


@pytest.mark.parametrize(("C", "heads"), [(100, 3), (36, 3), (136, 1), (256, 1)])
def test_heads_that_no_kernel_takes_are_refused(C, heads):
    with pytest.raises(ArrayRefused, match="choose another number of heads"):
        launches.attention_forward(B=1, T=8, C=C, heads=heads)


def test_an_array_that_is_not_aligned_is_told(shim):
    """On a card it would be an error that ends the process; an arena gives multiples of 256."""
    qkv = np.zeros(1 + 8 * 96, BFLOAT16)[1:].reshape(1, 8, 96)
    with pytest.raises(shim.ShimFault, match=r"cp\.async between addresses not aligned to 16"):
        forward(shim.launch, qkv, 1, 8, 1, 32)
