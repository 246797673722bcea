"""GELU, SwiGLU, dropout, residual sums, bias, casts and rotary positions of the CUDA sources."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import reference
from kernels.cuda import launches
from tests.kernels.cpu.conftest import narrow, off, wide
from tests.kernels.cpu.test_ops import BFLOAT16, TOLERANCE, Draw

SHAPES = [(1, 1), (3, 31), (5, 33), (31, 65), (7, 128)]


@pytest.fixture(params=["fp32", "bf16"])
def draw(request):
    return Draw(request.param)


@pytest.fixture
def near(draw):
    def check(found, expected):
        assert off(found, expected) < TOLERANCE["bf16" if draw.half else "fp32"]

    return check


@pytest.mark.parametrize("shape", SHAPES)
def test_gelu_and_its_gradient(device, draw, near, shape):
    N, F = shape
    x, dout = draw.activation(N, F), draw.activation(N, F)
    out, dx, exact, slope = draw.empty(N, F), draw.empty(N, F), np.empty((N, F)), np.empty((N, F))
    how = launches.gelu_forward(half=draw.half, count=N * F)
    device(how, out=out, wide=None, x=x, bias=None, count=N * F, F=F)
    reference.gelu_forward(exact, x=wide(x))
    near(out, exact)
    device(launches.gelu_backward(half=draw.half, count=N * F), dx=dx, dout=dout, x=x, count=N * F)
    reference.gelu_backward(slope, dout=wide(dout), x=wide(x))
    near(dx, slope)


@pytest.mark.parametrize("shape", SHAPES)
def test_gelu_takes_the_bias_along(device, draw, near, shape):
    N, F = shape
    x, bias = draw.activation(N, F), draw.stream(F)
    summed = wide(x) + wide(bias)
    out, exact = draw.empty(N, F), np.empty((N, F))
    how = launches.gelu_forward(half=draw.half, count=N * F)
    device(how, out=out, wide=x, x=x, bias=bias, count=N * F, F=F)
    near(x, summed)
    reference.gelu_forward(exact, x=wide(x))
    near(out, exact)


def test_gelu_of_large_numbers_is_the_number_or_nothing(device):
    x = np.array([-1e30, -1e4, -100, -40, 0, 40, 100, 1e4, 1e30], np.float32)
    out, dx, ones = np.empty_like(x), np.empty_like(x), np.ones_like(x)
    device(launches.gelu_forward(half=False, count=9), out=out, wide=None, x=x, bias=None, count=9, F=9)
    device(launches.gelu_backward(half=False, count=9), dx=dx, dout=ones, x=x, count=9)
    np.testing.assert_allclose(out, [0, 0, 0, 0, 0, 40, 100, 1e4, 1e30], atol=1e-30)
    np.testing.assert_allclose(dx, [0, 0, 0, 0, 0.5, 1, 1, 1, 1], atol=1e-30)


@pytest.mark.parametrize("shape", SHAPES)
def test_swiglu_and_its_gradient(device, draw, near, shape):
    N, F = shape
    x, dout = draw.activation(N, 2 * F), draw.activation(N, F)
    out, dx, exact, slope = draw.empty(N, F), draw.empty(N, 2 * F), np.empty((N, F)), np.empty((N, 2 * F))
    how = launches.swiglu_forward(half=draw.half, N=N, F=F)
    device(how, out=out, wide=None, x=x, bias=None, N=N, F=F)
    reference.swiglu_forward(exact, x=wide(x))
    near(out, exact)
    device(launches.swiglu_backward(half=draw.half, N=N, F=F), dx=dx, dout=dout, x=x, N=N, F=F)
    reference.swiglu_backward(slope, dout=wide(dout), x=wide(x))
    near(dx, slope)
    bias, sums = draw.stream(2 * F), draw.empty(N, 2 * F)
    device(how, out=out, wide=sums, x=x, bias=bias, N=N, F=F)
    near(sums, wide(x) + wide(bias))
    reference.swiglu_forward(exact, x=wide(sums))
    near(out, exact)


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.75])
@pytest.mark.parametrize("columns", [1, 31, 38])
def test_dropout_drops_what_the_reference_drops(device, draw, near, chance, columns):
    x, seed = draw.activation(17, columns), 2**63 + 5
    place = np.array([seed & 0xFFFFFFFF, seed >> 32, 7, 40], np.uint32)
    exact = np.empty((17, columns))
    reference.dropout_forward(exact, x=wide(x), chance=chance, seed=seed, step=7, stream=3, first_row=40)
    numbers = {"stream": 3, "below": int(chance * 2**32), "scale": 1 / (1 - chance), "N": 17, "C": columns}
    device(launches.dropout(half=draw.half, N=17, C=columns), out=x, x=x, place=place, **numbers)
    assert ((wide(x) == 0) == (exact == 0)).all()
    if exact.any():
        near(x, exact)


@pytest.mark.parametrize("shape", SHAPES)
def test_residual_sums_a_stream_a_branch_and_a_bias(device, draw, shape):
    N, C = shape
    x, branch, bias = draw.stream(N, C), draw.activation(N, C), draw.stream(C)
    for given in (None, bias):
        out = np.full((N, C), np.nan, np.float32)
        how = launches.residual(half=draw.half, count=N * C)
        device(how, out=out, x=x, branch=branch, bias=given, count=N * C, C=C)
        assert off(out, wide(x) + wide(branch) + (0 if given is None else wide(bias))) < 3e-7


@pytest.mark.parametrize("shape", [*SHAPES, (300, 260)])
def test_a_bias_is_added_and_its_gradient_gathered(device, draw, near, shape):
    N, O = shape  # noqa: E741
    x, bias = draw.activation(N, O), draw.stream(O)
    expected = wide(x) + wide(bias)
    device(launches.bias_forward(half=draw.half, count=N * O), out=x, bias=bias, count=N * O, O=O)
    near(x, expected)
    parts, dbias = launches.bias_parts(N), np.ones(O, np.float32)
    partial = np.full((parts, O), np.nan, np.float32)
    device(launches.bias_backward(half=draw.half, N=N, O=O), partial=partial, dout=x, N=N, O=O)
    integers = {"parts": parts, "columns": O, "split": O}
    device(launches.column_sums(O), first=dbias, second=None, partial=partial, **integers)
    np.testing.assert_allclose(dbias, 1 + wide(x).sum(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 31, 2049])
def test_casts_are_exact_one_way_and_to_nearest_even_the_other(device, count):
    values = np.random.default_rng(5).standard_normal(count).astype(np.float32)
    values[: min(count, 4)] = [1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, np.inf][: min(count, 4)]
    halves, back = np.zeros(count, BFLOAT16), np.full(count, np.nan, np.float32)
    device(launches.cast(to_half=True, count=count), out=halves, x=values, count=count)
    assert (halves == narrow(values)).all()
    device(launches.cast(to_half=False, count=count), out=back, x=halves, count=count)
    np.testing.assert_array_equal(back, wide(halves))


@pytest.mark.parametrize("planes", [4, 16, 33])
def test_rotary_turns_and_turns_back(device, draw, near, planes):
    B, T, heads = 2, 9, 2
    C = heads * 2 * planes
    qkv, angle = draw.activation(B, T, 3 * C), draw.random.standard_normal((12, planes))
    cosines, sines = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    for name, sign in (("rotary_forward", 1.0), ("rotary_backward", -1.0)):
        found, expected = qkv.copy(), wide(qkv)
        how = launches.rotary(half=draw.half, N=B * T, C=C, heads=heads)
        numbers = {"sign": sign, "N": B * T, "T": T, "C": C, "heads": heads}
        device(how, qkv=found, cosines=cosines, sines=sines, **numbers)
        getattr(reference, name)(expected, cosines=wide(cosines), sines=wide(sines), heads=heads)
        near(found, expected)
