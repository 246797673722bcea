"""Layer norm and RMS norm of the CUDA sources, against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import reference
from kernels.cuda import launches
from tests.kernels.cpu.conftest import off, wide
from tests.kernels.cpu.test_ops import TOLERANCE, Draw

SHAPES = [
    (1, 5),
    (3, 31),
    (33, 65),
    (2, 128),
    (70, 260),
]  # N, C: edges of blocks and lanes


@pytest.fixture(params=["fp32", "bf16"])
def draw(request):
    return Draw(request.param)


def limit(draw):
    return TOLERANCE["bf16" if draw.half else "fp32"]


def forward(device, draw, x, weight, bias, branch=None):
    N, C = x.shape
    out, mean, rstd = draw.empty(N, C), np.full(N, np.nan, np.float32), np.full(N, np.nan, np.float32)
    total = np.full((N, C), np.nan, np.float32)
    how = launches.norm_forward(centred=bias is not None, half=draw.half, N=N, C=C)
    device(
        how, out=out, mean=mean, rstd=rstd, sum=total, x=x, branch=branch, weight=weight, bias=bias, N=N, C=C
    )
    return out, mean, rstd, total


def backward(device, draw, dx, dout, x, weight, mean, rstd, add):
    N, C = x.shape
    centred = mean is not None
    sums = [np.ones(C, np.float32), np.ones(C, np.float32)]
    partial = np.full((launches.norm_parts(N), 2 if centred else 1, C), np.nan, np.float32)
    how = launches.norm_backward(centred=centred, half=draw.half, N=N, C=C)
    device(
        how, dx=dx, partial=partial, dout=dout, x=x, weight=weight, mean=mean, rstd=rstd, add=add, N=N, C=C
    )
    how, integers = launches.norm_sums(centred=centred, N=N, C=C)
    device(how, first=sums[0], second=sums[1], partial=partial, **integers)
    return sums


@pytest.mark.parametrize("shape", SHAPES)
def test_layernorm_and_its_gradients(device, draw, shape):
    N, C = shape
    x, weight, bias = draw.stream(N, C) + 3, draw.stream(C), draw.stream(C)
    exact, exact_mean, exact_rstd = np.empty((N, C)), np.empty(N), np.empty(N)
    reference.layernorm_forward(
        exact, exact_mean, exact_rstd, x=wide(x), weight=wide(weight), bias=wide(bias)
    )
    out, mean, rstd, _ = forward(device, draw, x, weight, bias)
    assert off(out, exact) < 2 * limit(draw)
    assert off(mean, exact_mean) < 1e-6
    assert off(rstd, exact_rstd) < 3e-6
    dout, dx = draw.activation(N, C), draw.stream(N, C)
    expected = [np.empty((N, C)), np.ones(C), np.ones(C)]
    reference.layernorm_backward(
        *expected, dout=wide(dout), x=wide(x), weight=wide(weight), mean=wide(mean), rstd=wide(rstd)
    )
    written = np.full_like(dx, np.nan)
    dweight, dbias = backward(device, draw, written, dout, x, weight, mean, rstd, add=0)
    assert off(written, expected[0]) < 1e-5
    assert off(dweight, expected[1]) < 3e-6
    assert off(dbias, expected[2]) < 3e-6
    added = dx.copy()
    backward(device, draw, added, dout, x, weight, mean, rstd, add=1)
    assert off(added, wide(dx) + expected[0]) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_rmsnorm_and_its_gradients(device, draw, shape):
    N, C = shape
    x, weight, dout = draw.stream(N, C), draw.stream(C), draw.activation(N, C)
    exact, exact_rstd = np.empty((N, C)), np.empty(N)
    reference.rmsnorm_forward(exact, exact_rstd, x=wide(x), weight=wide(weight))
    out, _, rstd, _ = forward(device, draw, x, weight, None)
    assert off(out, exact) < limit(draw)
    assert off(rstd, exact_rstd) < 3e-6
    expected = [np.empty((N, C)), np.ones(C)]
    reference.rmsnorm_backward(*expected, dout=wide(dout), x=wide(x), weight=wide(weight), rstd=wide(rstd))
    dx = np.full((N, C), np.nan, np.float32)
    dweight, _ = backward(device, draw, dx, dout, x, weight, None, rstd, add=0)
    assert off(dx, expected[0]) < 1e-5
    assert off(dweight, expected[1]) < 3e-6


def test_a_norm_sums_the_residual_on_its_way(device, draw):
    x, branch, weight, bias = draw.stream(33, 65), draw.activation(33, 65), draw.stream(65), draw.stream(65)
    out, *_, total = forward(device, draw, x, weight, bias, branch)
    expected = wide(x) + wide(branch)
    exact = np.empty((33, 65))
    reference.layernorm_forward(
        exact, np.empty(33), np.empty(33), x=expected, weight=wide(weight), bias=wide(bias)
    )
    assert off(total, expected) < 1e-7
    assert off(out, exact) < limit(draw)
