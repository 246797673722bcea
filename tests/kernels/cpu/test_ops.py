"""Every op of the CPU backend, in each instruction set, against the float64 reference.

Tolerance, as ‖found - expected‖ / ‖expected‖ over a whole array, for inputs that are exact in the dtype:
float32 rounds each step to 6e-8, which sums of up to 3,100 terms grow by the root of their number to 3e-6; no
wrong term is as small. bf16 keeps 8 bits: an output is off by up to 2^-9 = 2e-3, about 1.2e-3 in this norm;
4e-3 leaves room for one more rounding on the way (probabilities, slopes, and the factors of a product).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kernels import reference
from kernels.table import BFLOAT16
from tests.kernels.cpu.conftest import narrow, off, wide

TOLERANCE = {"fp32": 3e-6, "bf16": 4e-3}
# Rows, inputs, outputs (N, K, M): one of each; edges of tiles and vectors; more than one block each way.
PRODUCTS = [(1, 1, 1), (7, 65, 33), (13, 2, 64), (100, 130, 257), (97, 3100, 520), (3, 801, 7)]
SEQUENCES = [
    (1, 1, 1, 2),
    (2, 7, 2, 6),
    (1, 49, 3, 5),
    (2, 67, 2, 32),
    (1, 130, 1, 64),
    (1, 70, 2, 66),
]  # B, T, H, D
PRECISIONS = ["fp32", "bf16"]


class Draw:
    """Arrays of one precision, and their exact values in float64."""

    def __init__(self, precision: str) -> None:
        self.random = np.random.default_rng(7)
        self.half = precision == "bf16"

    def stream(self, *shape: int) -> np.ndarray:
        """What is float32 in every precision."""
        return self.random.standard_normal(shape).astype(np.float32)

    def activation(self, *shape: int) -> np.ndarray:
        values = self.stream(*shape)
        return narrow(values) if self.half else values

    def empty(self, *shape: int) -> np.ndarray:
        """Something that is not a number, to be written over."""
        values = np.full(shape, np.nan, np.float32)
        return narrow(values) if self.half else values


@pytest.fixture(params=PRECISIONS)
def draw(request):
    return Draw(request.param)


@pytest.fixture
def near(draw):
    limit = TOLERANCE["bf16" if draw.half else "fp32"]

    def check(*pairs):
        for found, expected in pairs:
            assert off(found, expected) < limit

    return check


def test_embedding_sums_rows_of_both_tables(cpu):
    draw = Draw("fp32")
    tokens = np.array([[3, 1, 3, 0], [3, 0, 1, 1]])
    table, positions = draw.stream(5, 37), draw.stream(6, 37)
    for at in (positions, None):
        out, expected = draw.empty(2, 4, 37), np.empty((2, 4, 37))
        cpu.embedding_forward(out, tokens=tokens, table=table, positions=at)
        reference.embedding_forward(
            expected, tokens=tokens, table=wide(table), positions=None if at is None else wide(at)
        )
        assert off(out, expected) < 1e-7


def test_embedding_backward_adds_repeated_tokens(cpu):
    draw = Draw("fp32")
    tokens = np.random.default_rng(1).integers(0, 9, (3, 50))
    dout = draw.stream(3, 50, 70)
    found = [np.ones((9, 70), np.float32), np.ones((60, 70), np.float32)]
    expected = [array.astype(np.float64) for array in found]
    cpu.embedding_backward(*found, dout=dout, tokens=tokens)
    reference.embedding_backward(*expected, dout=wide(dout), tokens=tokens)
    for one, other in zip(found, expected, strict=True):
        assert off(one, other) < 1e-6
    cpu.embedding_backward(found[0], None, dout=dout, tokens=tokens)


@pytest.mark.parametrize("width", [1, 24, 37, 128])
def test_layernorm_and_its_gradients(cpu, draw, near, width):
    x, weight, bias, dout = (
        draw.stream(131, width),
        draw.stream(width),
        draw.stream(width),
        draw.activation(131, width),
    )
    out, mean, rstd = draw.empty(131, width), np.empty(131, np.float32), np.empty(131, np.float32)
    exact, exact_mean, exact_rstd = np.empty((131, width)), np.empty(131), np.empty(131)
    cpu.layernorm_forward(out, mean, rstd, x=x, weight=weight, bias=bias)
    reference.layernorm_forward(
        exact, exact_mean, exact_rstd, x=wide(x), weight=wide(weight), bias=wide(bias)
    )
    near((out, exact))
    assert off(rstd, exact_rstd) < 1e-6
    if width == 1:
        return  # nothing is left of a row of one: its gradient is rounding
    found = [np.full_like(x, np.nan), np.ones(width, np.float32), np.ones(width, np.float32)]
    expected = [array.astype(np.float64) for array in found]
    cpu.layernorm_backward(*found, dout=dout, x=x, weight=weight, mean=mean, rstd=rstd)
    reference.layernorm_backward(
        *expected, dout=wide(dout), x=wide(x), weight=wide(weight), mean=exact_mean, rstd=exact_rstd
    )
    near(*zip(found, expected, strict=True))
    kept = found[0].copy()
    cpu.layernorm_residual_backward(*found, dout=dout, x=x, weight=weight, mean=mean, rstd=rstd)
    assert off(found[0], 2 * wide(kept)) < 1e-6


@pytest.mark.parametrize("width", [24, 37, 128])
def test_rmsnorm_and_its_gradients(cpu, draw, near, width):
    x, weight, dout = draw.stream(131, width), draw.stream(width), draw.activation(131, width)
    out, rstd = draw.empty(131, width), np.empty(131, np.float32)
    exact, exact_rstd = np.empty((131, width)), np.empty(131)
    cpu.rmsnorm_forward(out, rstd, x=x, weight=weight)
    reference.rmsnorm_forward(exact, exact_rstd, x=wide(x), weight=wide(weight))
    near((out, exact), (rstd, exact_rstd))
    found = [np.full_like(x, np.nan), np.ones(width, np.float32)]
    expected = [array.astype(np.float64) for array in found]
    cpu.rmsnorm_backward(*found, dout=dout, x=x, weight=weight, rstd=rstd)
    reference.rmsnorm_backward(*expected, dout=wide(dout), x=wide(x), weight=wide(weight), rstd=exact_rstd)
    near(*zip(found, expected, strict=True))
    kept = found[0].copy()
    cpu.rmsnorm_residual_backward(*found, dout=dout, x=x, weight=weight, rstd=rstd)
    assert off(found[0], 2 * wide(kept)) < 1e-6


@pytest.mark.parametrize("shape", PRODUCTS)
@pytest.mark.parametrize("turned", [False, True])
def test_linear_and_its_gradients(cpu, draw, near, shape, turned):
    N, K, M = shape
    x, dout, bias = draw.activation(N, K), draw.activation(N, M), draw.stream(M)
    weight, dweight = (
        (draw.stream(M, K).T, np.ones((M, K), np.float32).T)
        if turned
        else (draw.stream(K, M), np.ones((K, M), np.float32))
    )
    factor = wide(narrow(weight)) if draw.half else wide(weight)  # both factors of a product are rounded
    out, exact = draw.empty(N, M), np.empty((N, M))
    cpu.linear_forward(out, x=x, weight=weight, bias=bias)
    reference.linear_forward(exact, x=wide(x), weight=factor, bias=wide(bias))
    near((out, exact))
    cpu.linear_forward(out, x=x, weight=weight, bias=None)
    near((out, wide(x) @ factor))
    found = [draw.empty(N, K), dweight, np.ones(M, np.float32)]
    expected = [np.empty((N, K)), np.ones((K, M)), np.ones(M)]
    cpu.linear_backward(*found, dout=dout, x=x, weight=weight)
    reference.linear_backward(*expected, dout=wide(dout), x=wide(x), weight=factor)
    near(*zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", PRODUCTS)
def test_linear_fused_with_gelu_and_with_the_residual(cpu, draw, near, shape):
    N, K, M = shape
    x, weight, bias, residual = draw.activation(N, K), draw.stream(K, M), draw.stream(M), draw.stream(N, M)
    weight = np.ascontiguousarray(weight / np.float32(K) ** np.float32(0.5))
    factor = wide(narrow(weight)) if draw.half else wide(weight)
    out, kept, exact, exact_kept = draw.empty(N, M), draw.empty(N, M), np.empty((N, M)), np.empty((N, M))
    cpu.linear_gelu_forward(out, kept, x=x, weight=weight, bias=bias)
    reference.linear_gelu_forward(exact, exact_kept, x=wide(x), weight=factor, bias=wide(bias))
    near((out, exact), (kept, exact_kept))
    summed = np.full((N, M), np.nan, np.float32)
    cpu.linear_residual_forward(summed, x=x, weight=weight, bias=bias, residual=residual)
    near((summed, wide(residual) + exact_kept))
    # The backward of a layer whose input x is gelu(before).
    before, dout = draw.activation(N, K), draw.activation(N, M)
    found = [draw.empty(N, K), np.ones((K, M), np.float32), np.ones(M, np.float32)]
    expected = [np.empty((N, K)), np.ones((K, M)), np.ones(M)]
    cpu.gelu_linear_backward(*found, dout=dout, x=x, wide=before, weight=weight)
    reference.gelu_linear_backward(*expected, dout=wide(dout), x=wide(x), wide=wide(before), weight=factor)
    near(*zip(found, expected, strict=True))


def test_a_float32_gradient_enters_a_bf16_product(cpu):
    draw = Draw("bf16")
    x, dout, weight = draw.activation(50, 48), draw.stream(50, 33), draw.stream(48, 33)
    found = [draw.empty(50, 48), np.zeros((48, 33), np.float32), np.zeros(33, np.float32)]
    expected = [np.empty((50, 48)), np.zeros((48, 33)), np.zeros(33)]
    cpu.linear_backward(*found, dout=dout, x=x, weight=weight)
    reference.linear_backward(*expected, dout=wide(dout), x=wide(x), weight=wide(weight))
    assert max(itertools.starmap(off, zip(found, expected, strict=True))) < TOLERANCE["bf16"]


@pytest.mark.parametrize("shape", SEQUENCES)
def test_attention_and_its_gradient(cpu, draw, near, shape):
    B, T, H, D = shape
    qkv, dout = draw.activation(B, T, 3 * H * D), draw.activation(B, T, H * D)
    out, lse = draw.empty(B, T, H * D), np.empty((B, H, T), np.float32)
    exact, exact_lse = np.empty((B, T, H * D)), np.empty((B, H, T))
    cpu.attention_forward(out, lse, qkv=qkv, heads=H)
    reference.attention_forward(exact, exact_lse, qkv=wide(qkv), heads=H)
    near((out, exact))
    assert np.abs(lse - exact_lse).max() < 4e-6
    dqkv, expected = draw.empty(B, T, 3 * H * D), np.empty((B, T, 3 * H * D))
    cpu.attention_backward(dqkv, dout=dout, out=out, lse=lse, qkv=qkv, heads=H)
    reference.attention_backward(expected, dout=wide(dout), out=exact, lse=exact_lse, qkv=wide(qkv), heads=H)
    near((dqkv, expected))


@pytest.mark.parametrize("half", [4, 16, 33])
def test_rotary_turns_and_turns_back(cpu, draw, near, half):
    qkv = draw.activation(2, 9, 3 * 2 * 2 * half)
    angle = draw.random.standard_normal((12, half))
    cosines, sines = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    for name in ("rotary_forward", "rotary_backward"):
        found, expected = qkv.copy(), wide(qkv)
        getattr(cpu, name)(found, cosines=cosines, sines=sines, heads=2)
        getattr(reference, name)(expected, cosines=wide(cosines), sines=wide(sines), heads=2)
        near((found, expected))


@pytest.mark.parametrize("count", [1, 37, 10_007])
def test_gelu_and_its_gradient(cpu, draw, near, count):
    x, dout = draw.activation(count), draw.activation(count)
    out, dx, exact, slope = draw.empty(count), draw.empty(count), np.empty(count), np.empty(count)
    cpu.gelu_forward(out, x=x)
    reference.gelu_forward(exact, x=wide(x))
    cpu.gelu_backward(dx, dout=dout, x=x)
    reference.gelu_backward(slope, dout=wide(dout), x=wide(x))
    near((out, exact), (dx, slope))


def test_gelu_of_large_numbers_is_the_number_or_nothing(cpu):
    x = np.array([-1e4, -100, -40, 0, 40, 100, 1e4], np.float32)
    out, dx = np.empty_like(x), np.empty_like(x)
    cpu.gelu_forward(out, x=x)
    cpu.gelu_backward(dx, dout=np.ones_like(x), x=x)
    np.testing.assert_allclose(out, [0, 0, 0, 0, 40, 100, 1e4], atol=1e-30)
    np.testing.assert_allclose(dx, [0, 0, 0, 0.5, 1, 1, 1], atol=1e-30)


@pytest.mark.parametrize("width", [1, 24, 37])
def test_swiglu_and_its_gradient(cpu, draw, near, width):
    x, dout = draw.activation(11, 2 * width), draw.activation(11, width)
    out, dx, exact, slope = (
        draw.empty(11, width),
        draw.empty(11, 2 * width),
        np.empty((11, width)),
        np.empty((11, 2 * width)),
    )
    cpu.swiglu_forward(out, x=x)
    reference.swiglu_forward(exact, x=wide(x))
    cpu.swiglu_backward(dx, dout=dout, x=x)
    reference.swiglu_backward(slope, dout=wide(dout), x=wide(x))
    near((out, exact), (dx, slope))


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.75])
def test_dropout_drops_what_the_reference_drops(cpu, draw, near, chance):
    x, place = (
        draw.activation(17, 38),
        {"chance": chance, "seed": 2**63 + 5, "step": 7, "stream": 3, "first_row": 40},
    )
    out, exact = draw.empty(17, 38), np.empty((17, 38))
    cpu.dropout_forward(out, x=x, **place)
    reference.dropout_forward(exact, x=wide(x), **place)
    assert ((wide(out) == 0) == (exact == 0)).all()
    near((out, exact))
    cpu.dropout_backward(out, dout=out, **place)
    reference.dropout_backward(exact, dout=exact, **place)
    near((out, exact))


def test_residual_sums_a_stream_and_a_branch(cpu, draw, near):
    x, branch = draw.stream(37, 5), draw.activation(37, 5)
    out = np.empty_like(x)
    cpu.residual_forward(out, x=x, branch=branch)
    assert off(out, wide(x) + wide(branch)) < 1e-7
    cpu.residual_backward(out, dbranch_input=branch)
    assert off(out, wide(x) + 2 * wide(branch)) < 1e-7


def test_widening_is_exact(cpu):
    values = narrow(np.array([0.0, -0.0, 1.5, -3e38, 1e-38, np.inf, np.nan], np.float32))
    out = np.empty(7, np.float32)
    cpu.widen(out, x=values)
    np.testing.assert_array_equal(out, wide(values).astype(np.float32))


@pytest.mark.parametrize("vocabulary", [2, 5, 256, 1003])
def test_cross_entropy_and_its_gradient(cpu, draw, near, vocabulary):
    logits, targets = draw.activation(33, vocabulary), draw.random.integers(0, vocabulary, 33)
    losses, lse, exact, exact_lse = (
        np.empty(33, np.float32),
        np.empty(33, np.float32),
        np.empty(33),
        np.empty(33),
    )
    cpu.softmax_cross_entropy_forward(losses, lse, logits=logits, targets=targets)
    reference.softmax_cross_entropy_forward(exact, exact_lse, logits=wide(logits), targets=targets)
    assert off(losses, exact) < 1e-6
    assert off(lse, exact_lse) < 1e-6
    slope = np.empty((33, vocabulary))
    reference.softmax_cross_entropy_backward(
        slope, logits=wide(logits), lse=exact_lse, targets=targets, scale=0.25
    )
    cpu.softmax_cross_entropy_backward(logits, logits=logits, lse=lse, targets=targets, scale=0.25)
    near((logits, slope))


def test_cross_entropy_of_enormous_logits_is_finite(cpu):
    logits, targets = np.array([[3e38, 0, 0], [-3e38, -3e38, 0]], np.float32), np.array([0, 2])
    losses, lse = np.empty(2, np.float32), np.empty(2, np.float32)
    cpu.softmax_cross_entropy_forward(losses, lse, logits=logits, targets=targets)
    np.testing.assert_array_equal(losses, [0, 0])


@pytest.mark.parametrize("count", [1, 37, 50_001])
def test_global_norm_is_summed_in_float64(cpu, count):
    values = np.random.default_rng(1).standard_normal(count).astype(np.float32)
    assert abs(cpu.global_norm(values) / reference.global_norm(values.astype(np.float64)) - 1) < 1e-12


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_number_that_is_not_finite_reaches_the_norm(cpu, broken):
    values = np.ones(40_000, np.float32)
    values[39_999] = broken
    assert not np.isfinite(cpu.global_norm(values))


@pytest.mark.parametrize("count", [1, 37, 40_007])
def test_adamw_makes_the_step_of_the_reference(cpu, count):
    draw = Draw("fp32")
    found = [
        draw.stream(count),
        draw.stream(count) * np.float32(1e-2),
        np.abs(draw.stream(count)) * np.float32(1e-3),
    ]
    expected = [wide(array) for array in found]
    gradients = draw.stream(count)
    rates = {
        "learning_rate": 1e-2,
        "beta1": 0.9,
        "beta2": 0.95,
        "epsilon": 1e-8,
        "weight_decay": 0.1,
        "gradient_scale": 0.5,
    }
    for step in range(3):
        cpu.adamw_step(*found, gradients=gradients, step=step, **rates)
        reference.adamw_step(*expected, gradients=wide(gradients), step=step, **rates)
    for one, other in zip(found, expected, strict=True):
        assert off(one, other) < 1e-6


def test_no_number_is_lost_where_something_is_not_finite(cpu, draw):
    """A NaN must reach the loss, or the guard of the trainer would not see it."""
    x = draw.activation(6, 64)
    x[3:4] = narrow(np.full((1, 64), np.nan)) if draw.half else np.nan
    out = draw.empty(6, 64)
    cpu.linear_forward(out, x=x, weight=draw.stream(64, 64), bias=None)
    assert np.isnan(wide(out)[3]).all()
    assert np.isfinite(wide(out)[[0, 1, 2, 4, 5]]).all()
    cpu.gelu_forward(out, x=out.copy())
    assert np.isnan(wide(out)[3]).all()
    losses, lse = np.empty(6, np.float32), np.empty(6, np.float32)
    cpu.softmax_cross_entropy_forward(losses, lse, logits=out, targets=np.zeros(6, np.int64))
    assert np.isnan(losses[3])


def test_bf16_is_rounded_to_nearest_even(cpu):
    """Between two neighbours, at the tie, and just beyond it."""
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8], np.float32)
    out = np.zeros((1, 5), BFLOAT16)
    cpu.linear_forward(out, x=np.ones((1, 1), np.float32), weight=values.reshape(1, 5), bias=None)
    assert (out == narrow(values.reshape(1, 5))).all()
