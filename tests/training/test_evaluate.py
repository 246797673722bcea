"""Bits per byte: every byte after the first counts exactly once."""

import math

import numpy as np
import pytest

import kernels
from appliance.training.config import ModelConfig
from appliance.training.data import HeldOut
from appliance.training.evaluate import cut, evaluate
from appliance.training.model import GPT

CONFIG = ModelConfig(layers=1, width=8, heads=1, context=8)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 12, 13, 64, 1001])
@pytest.mark.parametrize("context", [2, 3, 8])
def test_windows_score_each_prediction_once_with_half_a_context_before_it(size, context):
    scored = []
    for window in cut(size, context):
        start, begin, end = window.start, window.begin, window.end
        assert start >= 0
        assert 0 <= begin < end <= context
        assert start == 0 or begin >= context // 2
        scored += range(start + begin, start + end)
    assert scored == list(range(size))


def test_a_model_that_knows_nothing_needs_eight_bits():
    model = GPT(CONFIG, kernels.backend())  # all weights are zero
    stream = np.random.default_rng(0).integers(0, 256, 100).astype(np.uint8)
    found = evaluate(model, [model.arena(3, 8)], HeldOut(stream, 99))
    assert (found.tokens, found.size_bytes) == (99, 99)
    assert math.isclose(found.bits_per_byte, 8.0, rel_tol=1e-6)
    assert math.isclose(found.nats_per_token, 8.0 * math.log(2), rel_tol=1e-6)


def test_tokens_of_several_bytes_share_their_loss_among_them():
    model = GPT(CONFIG, kernels.backend())
    stream = np.random.default_rng(0).integers(0, 256, 100).astype(np.uint8)
    found = evaluate(model, [model.arena(3, 8)], HeldOut(stream, 4 * 99))
    assert math.isclose(found.bits_per_byte, 2.0, rel_tol=1e-6)
    assert math.isclose(found.nats_per_token, 8.0 * math.log(2), rel_tol=1e-6)


@pytest.mark.parametrize("size", [2, 8, 9, 50])
def test_the_figure_is_the_mean_over_windows_computed_one_by_one(size):
    model = GPT(CONFIG, kernels.backend(), np.float64)
    model.initialise(1)
    stream = np.random.default_rng(1).integers(97, 100, size).astype(np.uint8)
    nats = 0.0
    for position in range(1, size):
        first = 0
        if position > 8:
            first = next(w.start for w in cut(size - 1, 8) if w.begin <= position - 1 - w.start < w.end)
        row = stream[first:position].astype(np.int64)[None]
        logits = model.forward(model.arena(1, row.size), row)[-1]
        nats += np.log(np.exp(logits).sum()) - logits[stream[position]]
    expected = nats / (size - 1) / math.log(2)
    text = HeldOut(stream, size - 1)
    for arenas in ([model.arena(4, 8)], [model.arena(1, 8), model.arena(2, 8)]):
        assert math.isclose(evaluate(model, arenas, text).bits_per_byte, expected, rel_tol=1e-9)
