"""Every backward of the reference against central finite differences in float64.

Tolerance: with a step of 1e-6 the truncation error is about 1e-12 and rounding about 1e-16 / 1e-6 = 1e-10 of
values near one; 1e-7 relative leaves room for sums and misses no wrong term.
"""

import numpy as np
import pytest

from kernels import reference as ops

TOLERANCE = 1e-7
STEP = 1e-6


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def slope(function, x):
    """Numerical gradient of a scalar function at x, element by element."""
    result = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + STEP
        above = function()
        x[place] = kept - STEP
        below = function()
        x[place] = kept
        result[place] = (above - below) / (2 * STEP)
    return result


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * np.abs(expected).max())


def test_embedding_backward_is_the_gradient_also_for_repeated_tokens():
    tokens = np.array([[3, 1, 3], [3, 0, 1]])
    table, positions, weigh = draw(5, 4), draw(6, 4, seed=1), draw(2, 3, 4, seed=2)
    out = np.empty((2, 3, 4))

    def loss():
        ops.embedding_forward(out, tokens=tokens, table=table, positions=positions)
        return (out * weigh).sum()

    dtable, dpositions = np.zeros_like(table), np.zeros_like(positions)
    ops.embedding_backward(dtable, dpositions, dout=weigh, tokens=tokens)
    same(dtable, slope(loss, table))
    same(dpositions, slope(loss, positions))


def test_layernorm_backward_is_the_gradient():
    x, weight, bias, weigh = draw(5, 7), draw(7, seed=1), draw(7, seed=2), draw(5, 7, seed=3)
    out, mean, rstd = np.empty((5, 7)), np.empty(5), np.empty(5)

    def loss():
        ops.layernorm_forward(out, mean, rstd, x=x, weight=weight, bias=bias)
        return (out * weigh).sum()

    loss()
    dx, dweight, dbias = np.empty_like(x), np.zeros(7), np.zeros(7)
    ops.layernorm_backward(dx, dweight, dbias, dout=weigh, x=x, weight=weight, mean=mean, rstd=rstd)
    kept = mean.copy(), rstd.copy()
    same(dx, slope(loss, x))
    same(dweight, slope(loss, weight))
    same(dbias, slope(loss, bias))
    loss()
    assert (mean == kept[0]).all()
    assert (rstd == kept[1]).all()


@pytest.mark.parametrize("biased", [True, False])
def test_linear_backward_is_the_gradient(biased):
    x, weight, weigh = draw(5, 3), draw(3, 4, seed=1), draw(5, 4, seed=2)
    bias = draw(4, seed=3) if biased else None
    out = np.empty((5, 4))

    def loss():
        ops.linear_forward(out, x=x, weight=weight, bias=bias)
        return (out * weigh).sum()

    dx, dweight = np.empty_like(x), np.zeros_like(weight)
    dbias = np.zeros(4) if biased else None
    ops.linear_backward(dx, dweight, dbias, dout=weigh, x=x, weight=weight)
    same(dx, slope(loss, x))
    same(dweight, slope(loss, weight))
    if biased:
        same(dbias, slope(loss, bias))


# One time step; within a tile; a few rows beyond one tile of 64 queries, where tiles meet.
@pytest.mark.parametrize(("time", "heads", "size"), [(1, 2, 3), (6, 2, 3), (67, 1, 1)])
def test_attention_backward_is_the_gradient(time, heads, size):
    width = heads * size
    qkv, weigh = draw(2, time, 3 * width), draw(2, time, width, seed=1)
    out, lse = np.empty((2, time, width)), np.empty((2, heads, time))

    def loss():
        ops.attention_forward(out, lse, qkv=qkv, heads=heads)
        return (out * weigh).sum()

    loss()
    dqkv = np.full_like(qkv, np.nan)
    ops.attention_backward(dqkv, dout=weigh, out=out.copy(), lse=lse.copy(), qkv=qkv, heads=heads)
    same(dqkv, slope(loss, qkv))


def test_gelu_backward_is_the_gradient_in_place_too():
    x, weigh = draw(3, 11) * 3, draw(3, 11, seed=1)
    out = np.empty_like(x)

    def loss():
        ops.gelu_forward(out, x=x)
        return (out * weigh).sum()

    dx = weigh.copy()
    ops.gelu_backward(dx, dout=dx, x=x)
    same(dx, slope(loss, x))


def test_residual_sums_forward_and_its_gradients_backward():
    x, branch = draw(3, 4), draw(3, 4, seed=1)
    out = np.empty_like(x)
    ops.residual_forward(out, x=x, branch=branch)
    assert (out == x + branch).all()
    ops.residual_backward(out, dbranch_input=branch)
    assert (out == x + branch + branch).all()


def test_softmax_cross_entropy_backward_is_the_gradient_in_place_too():
    logits, targets = draw(6, 5) * 3, np.array([0, 4, 2, 2, 1, 3])
    losses, lse = np.empty(6), np.empty(6)

    def loss():
        ops.softmax_cross_entropy_forward(losses, lse, logits=logits, targets=targets)
        return 0.25 * losses.sum()

    expected = slope(loss, logits)
    loss()
    dlogits = logits.copy()
    ops.softmax_cross_entropy_backward(dlogits, logits=dlogits, lse=lse, targets=targets, scale=0.25)
    same(dlogits, expected)


def test_parameter_gradients_are_added_and_activation_gradients_written():
    x, weight, dout = draw(5, 3), draw(3, 4, seed=1), draw(5, 4, seed=2)
    dx, dweight, dbias = np.full((5, 3), np.nan), np.ones((3, 4)), np.ones(4)
    ops.linear_backward(dx, dweight, dbias, dout=dout, x=x, weight=weight)
    assert np.isfinite(dx).all()
    same(dweight, 1 + x.T @ dout)
    same(dbias, 1 + dout.sum(axis=0))
    table, positions = np.ones((2, 4)), np.ones((2, 4))
    ops.embedding_backward(table, positions, dout=draw(1, 2, 4), tokens=np.array([[0, 0]]))
    same(table, np.stack([1 + draw(1, 2, 4)[0].sum(axis=0), np.ones(4)]))


def test_embedding_backward_without_positions_is_the_gradient_of_the_tokens_alone():
    tokens, table, weigh = np.array([[3, 1, 3], [3, 0, 1]]), draw(5, 4), draw(2, 3, 4, seed=2)
    out = np.empty((2, 3, 4))

    def loss():
        ops.embedding_forward(out, tokens=tokens, table=table, positions=None)
        return (out * weigh).sum()

    dtable = np.zeros_like(table)
    ops.embedding_backward(dtable, None, dout=weigh, tokens=tokens)
    same(dtable, slope(loss, table))


def test_rmsnorm_backward_is_the_gradient():
    x, weight, weigh = draw(5, 7), draw(7, seed=1), draw(5, 7, seed=3)
    out, rstd = np.empty((5, 7)), np.empty(5)

    def loss():
        ops.rmsnorm_forward(out, rstd, x=x, weight=weight)
        return (out * weigh).sum()

    loss()
    dx, dweight = np.full_like(x, np.nan), np.ones(7)
    ops.rmsnorm_backward(dx, dweight, dout=weigh, x=x, weight=weight, rstd=rstd.copy())
    same(dx, slope(loss, x))
    same(dweight - 1, slope(loss, weight))


def test_swiglu_backward_is_the_gradient():
    x, weigh = draw(5, 8) * 3, draw(5, 4, seed=1)
    out = np.empty((5, 4))

    def loss():
        ops.swiglu_forward(out, x=x)
        return (out * weigh).sum()

    dx = np.full_like(x, np.nan)
    ops.swiglu_backward(dx, dout=weigh, x=x)
    same(dx, slope(loss, x))


@pytest.mark.parametrize(("heads", "size"), [(1, 2), (2, 4), (3, 6)])
def test_rotary_backward_is_the_gradient(heads, size):
    qkv, weigh = draw(2, 5, 3 * heads * size), draw(2, 5, 3 * heads * size, seed=1)
    angles = draw(7, size // 2, seed=2)  # more rows than time: the first ones count
    cosines, sines = np.cos(angles), np.sin(angles)

    def loss():
        turned = qkv.copy()
        ops.rotary_forward(turned, cosines=cosines, sines=sines, heads=heads)
        return (turned * weigh).sum()

    dqkv = weigh.copy()
    ops.rotary_backward(dqkv, cosines=cosines, sines=sines, heads=heads)
    same(dqkv, slope(loss, qkv))


@pytest.mark.parametrize("width", [1, 4, 7])
def test_dropout_backward_is_the_gradient_in_place_too(width):
    x, weigh = draw(6, width), draw(6, width, seed=1)
    place = {"chance": 0.4, "seed": 7, "step": 3, "stream": 2, "first_row": 11}
    out = np.empty_like(x)

    def loss():
        ops.dropout_forward(out, x=x, **place)
        return (out * weigh).sum()

    dx = weigh.copy()
    ops.dropout_backward(dx, dout=dx, **place)
    same(dx, slope(loss, x))
