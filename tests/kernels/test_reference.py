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


@pytest.mark.parametrize("dtype", DTYPES)
def test_rmsnorm_gives_rows_of_root_mean_square_one_and_leaves_their_mean(dtype):
    x = draw(9, 300, dtype=dtype) * 5 + 3
    out, rstd = np.empty_like(x), np.empty(9, dtype)
    ops.rmsnorm_forward(out, rstd, x=x, weight=np.ones(300, dtype))
    np.testing.assert_allclose(np.square(out).mean(axis=1), 1, rtol=1e-4)  # epsilon takes a little
    np.testing.assert_allclose(out, x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-5), rtol=1e-5)
    assert (np.abs(out.mean(axis=1)) > 0.3).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_swiglu_is_gate_times_sigmoid_times_up_even_of_huge_gates(dtype):
    x = draw(4, 6, dtype=dtype)
    x[0, :3] = [1e4, -1e4, 0.0]
    out = np.empty((4, 3), dtype)
    ops.swiglu_forward(out, x=x)
    gate, up = x[1:, :3].astype(np.float64), x[1:, 3:].astype(np.float64)
    np.testing.assert_allclose(out[1:], gate / (1 + np.exp(-gate)) * up, rtol=1e-5)
    assert out[0].tolist() == [1e4 * x[0, 3], 0.0, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotary_turns_each_plane_of_queries_and_keys_and_leaves_values(dtype):
    B, T, heads, D = 2, 5, 3, 4
    qkv = draw(B, T, 3 * heads * D, dtype=dtype)
    angles = draw(T, D // 2, seed=1)
    turned = qkv.copy()
    ops.rotary_forward(
        turned, cosines=np.cos(angles).astype(dtype), sines=np.sin(angles).astype(dtype), heads=heads
    )
    before = qkv.reshape(B, T, 3, heads, 2, D // 2)
    after = turned.reshape(B, T, 3, heads, 2, D // 2)
    plane = before[..., 0, :] + 1j * before[..., 1, :]
    expected = plane * np.exp(1j * angles)[None, :, None, None]
    np.testing.assert_allclose(after[:, :, :2, :, 0], expected[:, :, :2].real, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after[:, :, :2, :, 1], expected[:, :, :2].imag, rtol=1e-4, atol=1e-6)
    assert (after[:, :, 2] == before[:, :, 2]).all()


def test_rotary_makes_scores_depend_on_distance_alone():
    T, D = 9, 8
    angles = np.arange(T)[:, None] * 10000.0 ** (-np.arange(D // 2) / (D // 2))
    qkv = np.tile(draw(3 * D), (1, T, 1))
    ops.rotary_forward(qkv, cosines=np.cos(angles), sines=np.sin(angles), heads=1)
    scores = qkv[0, :, :D] @ qkv[0, :, D : 2 * D].T
    for distance in range(T):
        along = np.diagonal(scores, -distance)
        np.testing.assert_allclose(along, along[0], rtol=1e-9, atol=1e-12)


def place(**changed):
    return {"chance": 0.25, "seed": 5, "step": 6, "stream": 1, "first_row": 0, **changed}


def dropped(shape=(64, 50), dtype=np.float32, **changed):
    out = np.empty(shape, dtype)
    ops.dropout_forward(out, x=np.ones(shape, dtype), **place(**changed))
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("chance", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(dtype, chance):
    out = dropped((400, 250), dtype, chance=chance)
    assert set(np.unique(out)) <= {dtype(0), dtype(1 / (1 - chance))}
    assert (out == 0).mean() == pytest.approx(chance, abs=0.006)  # 100,000 draws: four deviations
    assert out.mean() == pytest.approx(1.0, abs=0.05)


def test_a_dropout_mask_is_a_function_of_its_place_alone():
    whole = dropped()
    assert (dropped() == whole).all()
    for cut in (1, 13, 63):
        parts = [dropped((cut, 50)), dropped((64 - cut, 50), first_row=cut)]
        assert (np.concatenate(parts) == whole).all()
    assert (dropped((64, 31)) == whole[:, :31]).all()
    for other in ({"seed": 5 + 2**40}, {"seed": 4}, {"step": 7}, {"stream": 2}, {"first_row": 64}):
        agree = (dropped(**other) == whole).mean()
        assert agree == pytest.approx(0.25**2 + 0.75**2, abs=0.05), other


def test_the_masks_that_every_backend_must_give():
    # By a scalar Philox in Python, at the far ends of its counters.
    expected = ["1111111111", "1111111111", "0101110111"]
    rows = dropped((3, 10), seed=2**63 - 1, step=10**9, stream=513, first_row=2**32 - 3)
    assert ["".join("1" if value else "0" for value in row) for row in rows] == expected
