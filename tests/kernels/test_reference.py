"""Each forward of the reference against the formula written out plainly, and its promises."""

import math

import numpy as np
import pytest

from kernels import reference as ops

# Float32 has 24 bits: 6e-8 relative per operation; sums of a few hundred terms stay within 1e-5.
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
DTYPES = sorted(TOLERANCE, key=str)


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def attention(qkv, heads):
    """One query at a time, in float64."""
    B, T, width = qkv.shape
    D = width // (3 * heads)
    q, k, v = (part.reshape(B, T, heads, D) for part in np.split(qkv.astype(np.float64), 3, axis=2))
    out = np.zeros((B, T, heads, D))
    for b, t, h in np.ndindex(B, T, heads):
        scores = k[b, : t + 1, h] @ q[b, t, h] / math.sqrt(D)
        chances = np.exp(scores - scores.max())
        out[b, t, h] = chances / chances.sum() @ v[b, : t + 1, h]
    return out.reshape(B, T, heads * D)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("time", "heads"), [(1, 1), (63, 2), (64, 2), (65, 1), (130, 3)])
def test_attention_equals_one_query_at_a_time(dtype, time, heads):
    qkv = draw(2, time, 3 * heads * 4, dtype=dtype)
    out, lse = np.empty((2, time, heads * 4), dtype), np.empty((2, heads, time), dtype)
    ops.attention_forward(out, lse, qkv=qkv, heads=heads)
    np.testing.assert_allclose(out, attention(qkv, heads), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_attention_never_looks_ahead():
    qkv = draw(1, 70, 12, dtype=np.float32)
    out, lse = np.empty((1, 70, 4), np.float32), np.empty((1, 2, 70), np.float32)
    ops.attention_forward(out, lse, qkv=qkv, heads=2)
    before = out.copy()
    qkv[:, 66:] = 1e3
    ops.attention_forward(out, lse, qkv=qkv, heads=2)
    assert (out[:, :66] == before[:, :66]).all()
    assert (out[:, 66:] != before[:, 66:]).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_survives_scores_that_would_overflow(dtype):
    qkv = draw(1, 5, 6, dtype=dtype) * 100
    out, lse = np.empty((1, 5, 2), dtype), np.empty((1, 1, 5), dtype)
    ops.attention_forward(out, lse, qkv=qkv, heads=1)
    assert np.isfinite(out).all()
    assert np.isfinite(lse).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_layernorm_gives_rows_of_mean_zero_and_variance_one(dtype):
    x = draw(9, 300, dtype=dtype) * 5 + 3
    out, mean, rstd = np.empty_like(x), np.empty(9, dtype), np.empty(9, dtype)
    one, zero = np.ones(300, dtype), np.zeros(300, dtype)
    ops.layernorm_forward(out, mean, rstd, x=x, weight=one, bias=zero)
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(out.var(axis=1), 1, rtol=1e-4)  # epsilon takes a little
    np.testing.assert_allclose(mean, x.mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 32_768, 32_769, 70_000])
def test_gelu_is_the_tanh_form_across_tiles(size):
    x = draw(size)
    out = np.empty_like(x)
    ops.gelu_forward(out, x=x)
    expected = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_is_the_negative_log_likelihood_even_of_huge_logits(dtype):
    logits, targets = draw(4, 6, dtype=dtype) * 200, np.array([5, 0, 3, 3])
    losses, lse = np.empty(4, dtype), np.empty(4, dtype)
    ops.softmax_cross_entropy_forward(losses, lse, logits=logits, targets=targets)
    wide = logits.astype(np.float64)
    peak = wide.max(axis=1)
    total = np.log(np.exp(wide - peak[:, None]).sum(axis=1)) + peak
    np.testing.assert_allclose(losses, total - wide[np.arange(4), targets], rtol=1e-5, atol=1e-4)


def test_global_norm_is_the_euclidean_length_and_shows_every_broken_element():
    flat = draw(100_000, dtype=np.float32)
    assert math.isclose(ops.global_norm(flat), float(np.linalg.norm(flat.astype(np.float64))), rel_tol=1e-6)
    for broken in (np.nan, np.inf, -np.inf):
        flat[77] = broken
        assert not math.isfinite(ops.global_norm(flat))


def test_adamw_follows_the_published_algorithm_element_by_element():
    size = 40_000  # more than one tile
    p, g = draw(size), draw(size, seed=1)
    m, v = np.zeros(size), np.zeros(size)
    expected_p, expected_m, expected_v = p.copy(), m.copy(), v.copy()
    for step in range(3):
        ops.adamw_step(
            p,
            m,
            v,
            gradients=g,
            step=step,
            learning_rate=0.01,
            beta1=0.9,
            beta2=0.99,
            epsilon=1e-8,
            weight_decay=0.1,
            gradient_scale=0.5,
        )
        t, half = step + 1, 0.5 * g
        expected_m = 0.9 * expected_m + 0.1 * half
        expected_v = 0.99 * expected_v + 0.01 * half**2
        m_hat, v_hat = expected_m / (1 - 0.9**t), expected_v / (1 - 0.99**t)
        expected_p -= 0.01 * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.1 * expected_p)
    np.testing.assert_allclose(p, expected_p, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(m, expected_m, rtol=1e-12)
    np.testing.assert_allclose(v, expected_v, rtol=1e-12)


def test_adamw_leaves_the_gradients_alone():
    p, g = draw(10), draw(10, seed=1)
    kept = g.copy()
    ops.adamw_step(
        p,
        np.zeros(10),
        np.zeros(10),
        gradients=g,
        step=0,
        learning_rate=0.1,
        beta1=0.9,
        beta2=0.9,
        epsilon=1e-8,
        weight_decay=0.0,
        gradient_scale=1.0,
    )
    assert (g == kept).all()


def test_two_runs_of_every_reduction_are_equal_to_the_bit():
    tokens = np.random.default_rng(0).integers(0, 256, (4, 100))
    dout = draw(4, 100, 32, dtype=np.float32)
    qkv = draw(4, 100, 96, dtype=np.float32)
    seen = []
    for _ in range(2):
        table, positions = np.zeros((256, 32), np.float32), np.zeros((100, 32), np.float32)
        ops.embedding_backward(table, positions, dout=dout, tokens=tokens)
        out, lse = np.empty_like(dout), np.empty((4, 2, 100), np.float32)
        ops.attention_forward(out, lse, qkv=qkv, heads=2)
        dqkv = np.empty_like(qkv)
        ops.attention_backward(dqkv, dout=dout, out=out, lse=lse, qkv=qkv, heads=2)
        dweight = np.zeros((32, 32), np.float32)
        flat = dout.reshape(400, 32)
        ops.linear_backward(np.empty_like(flat), dweight, None, dout=flat, x=flat, weight=dweight.copy())
        seen.append(b"".join(a.tobytes() for a in (table, positions, out, dqkv, dweight)))
    assert seen[0] == seen[1]
