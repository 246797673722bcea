"""Backwards of the CPU backend against finite differences of its own forwards, along random directions.

Tolerance: in float32 a difference over 2·10⁻² of values near one carries rounding of about 1e-7 / 1e-2 = 1e-5
per element, which a sum over thousands of them averages, and a truncation error of about 1e-4: 1e-2 relative
holds both and misses no wrong term.
"""

from __future__ import annotations

import numpy as np
import pytest

STEP = np.float32(1e-2)


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def linear(cpu, x, weight, bias):
    out = np.empty((x.shape[0], weight.shape[1]), np.float32)
    cpu.linear_forward(out, x=x, weight=weight, bias=bias)
    return out


def linear_slope(cpu, dout, x, weight, bias):
    slopes = np.empty_like(x), np.zeros_like(weight), np.zeros_like(bias)
    cpu.linear_backward(*slopes, dout=dout, x=x, weight=weight)
    return slopes


def layernorm(cpu, x, weight, bias):
    out, mean, rstd = np.empty_like(x), np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    cpu.layernorm_forward(out, mean, rstd, x=x, weight=weight, bias=bias)
    return out


def layernorm_slope(cpu, dout, x, weight, bias):
    out, mean, rstd = np.empty_like(x), np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    cpu.layernorm_forward(out, mean, rstd, x=x, weight=weight, bias=bias)
    slopes = np.empty_like(x), np.zeros_like(weight), np.zeros_like(bias)
    cpu.layernorm_backward(*slopes, dout=dout, x=x, weight=weight, mean=mean, rstd=rstd)
    return slopes


def rmsnorm(cpu, x, weight):
    out, rstd = np.empty_like(x), np.empty(len(x), np.float32)
    cpu.rmsnorm_forward(out, rstd, x=x, weight=weight)
    return out


def rmsnorm_slope(cpu, dout, x, weight):
    out, rstd = np.empty_like(x), np.empty(len(x), np.float32)
    cpu.rmsnorm_forward(out, rstd, x=x, weight=weight)
    slopes = np.empty_like(x), np.zeros_like(weight)
    cpu.rmsnorm_backward(*slopes, dout=dout, x=x, weight=weight, rstd=rstd)
    return slopes


def attention(cpu, qkv):
    B, T, triple = qkv.shape
    out = np.empty((B, T, triple // 3), np.float32)
    cpu.attention_forward(out, np.empty((B, 2, T), np.float32), qkv=qkv, heads=2)
    return out


def attention_slope(cpu, dout, qkv):
    B, T, _ = qkv.shape
    out, lse, dqkv = np.empty_like(dout), np.empty((B, 2, T), np.float32), np.empty_like(qkv)
    cpu.attention_forward(out, lse, qkv=qkv, heads=2)
    cpu.attention_backward(dqkv, dout=dout, out=out, lse=lse, qkv=qkv, heads=2)
    return (dqkv,)


def gelu(cpu, x):
    out = np.empty_like(x)
    cpu.gelu_forward(out, x=x)
    return out


def gelu_slope(cpu, dout, x):
    dx = np.empty_like(x)
    cpu.gelu_backward(dx, dout=dout, x=x)
    return (dx,)


def swiglu(cpu, x):
    out = np.empty((x.shape[0], x.shape[1] // 2), np.float32)
    cpu.swiglu_forward(out, x=x)
    return out


def swiglu_slope(cpu, dout, x):
    dx = np.empty_like(x)
    cpu.swiglu_backward(dx, dout=dout, x=x)
    return (dx,)


TARGETS = np.arange(60) % 37


def loss(cpu, logits):
    losses, lse = np.empty(60, np.float32), np.empty(60, np.float32)
    cpu.softmax_cross_entropy_forward(losses, lse, logits=logits, targets=TARGETS)
    return losses


def loss_slope(cpu, dout, logits):
    losses, lse, dlogits = np.empty(60, np.float32), np.empty(60, np.float32), np.empty_like(logits)
    cpu.softmax_cross_entropy_forward(losses, lse, logits=logits, targets=TARGETS)
    cpu.softmax_cross_entropy_backward(dlogits, logits=logits, lse=lse, targets=TARGETS, scale=1.0)
    return (dlogits,)


PAIRS = {
    "linear": (linear, linear_slope, (draw(60, 70), draw(70, 37), draw(37)), None),
    "layernorm": (layernorm, layernorm_slope, (draw(60, 70), draw(70), draw(70, seed=1)), None),
    "rmsnorm": (rmsnorm, rmsnorm_slope, (draw(60, 70), draw(70)), None),
    "attention": (attention, attention_slope, (draw(2, 70, 3 * 32),), None),
    "gelu": (gelu, gelu_slope, (draw(60, 70),), None),
    "swiglu": (swiglu, swiglu_slope, (draw(60, 70),), None),
    # Only the sum of the losses has a gradient here: its op has no weight per row.
    "cross entropy": (loss, loss_slope, (draw(60, 37),), np.ones(60, np.float32)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_backward_is_the_slope_of_its_forward(cpu, name):
    forward, backward, inputs, weigh = PAIRS[name]
    out = forward(cpu, *inputs)
    weigh = draw(*out.shape, seed=9) if weigh is None else weigh
    slopes = backward(cpu, weigh, *inputs)
    for place, slope in enumerate(slopes):
        direction = slope / np.float32(np.linalg.norm(slope) / np.sqrt(slope.size))  # steepest: far from zero
        moved = [
            [x + sign * STEP * direction if i == place else x for i, x in enumerate(inputs)]
            for sign in (1, -1)
        ]
        above, below = ((forward(cpu, *at).astype(np.float64) * weigh).sum() for at in moved)
        expected = float((slope.astype(np.float64) * direction).sum())
        assert abs((above - below) / (2 * float(STEP)) / expected - 1) < 1e-2, place
