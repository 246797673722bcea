"""Lanes share the work and change nothing: not by how many threads, and hardly by being lanes."""

import types

import numpy as np
import pytest

import kernels
from appliance.training.config import ModelConfig
from appliance.training.data import Batch
from appliance.training.lanes import Lanes
from appliance.training.layout import Buffer
from appliance.training.model import GPT

CONFIG = ModelConfig(layers=2, width=16, heads=2, context=8)


def with_lanes(count):
    """The reference backend, cutting batches into `count` parts."""
    return types.SimpleNamespace(**{**vars(kernels.backend()), "LANES": count})


def built(lanes, dtype=np.float64):
    model = GPT(CONFIG, with_lanes(lanes), dtype)
    model.initialise(1)
    return model


def batch_of(size):
    rng = np.random.default_rng(size)
    return Batch(rng.integers(0, 256, (size, 8)), rng.integers(0, 256, (size, 8)))


@pytest.mark.parametrize("size", [1, 3, 4, 7, 8])
def test_the_gradient_of_lanes_is_that_of_the_whole_batch(size):
    batch, whole = batch_of(size), built(1)
    expected = Buffer(whole.layout, whole.backend, np.float64)
    loss = whole.forward_backward(whole.arena(size, 8), expected, batch.tokens, batch.targets)
    found_loss, found = Lanes(built(4), size).loss_and_gradient(batch)
    assert found_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(found.flat, expected.flat, rtol=1e-9, atol=1e-13)


def test_bits_do_not_depend_on_the_number_of_threads():
    seen = set()
    stream = np.random.default_rng(0).integers(0, 256, 500).astype(np.uint8)
    for threads in (1, 2, 3, 8):
        lanes = Lanes(built(4, np.float32), 6, threads)
        for _ in range(2):
            loss, gradient = lanes.loss_and_gradient(batch_of(6))
            seen.add((loss, gradient.flat.tobytes(), lanes.evaluate(stream)))
    assert len(seen) == 1
