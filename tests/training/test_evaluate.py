"""Bits per byte: every byte after the first counts exactly once."""

import math

import numpy as np
import pytest

import kernels
from appliance.training.config import ModelConfig
from appliance.training.evaluate import bits_per_byte, cut
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
    assert math.isclose(bits_per_byte(model, [model.arena(3, 8)], stream), 8.0, rel_tol=1e-6)


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
    assert math.isclose(bits_per_byte(model, [model.arena(4, 8)], stream), expected, rel_tol=1e-9)
    assert math.isclose(
        bits_per_byte(model, [model.arena(1, 8), model.arena(2, 8)], stream), expected, rel_tol=1e-9
    )
