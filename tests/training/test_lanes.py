"""Lanes share the work and change nothing: not by how many threads, and hardly by being lanes."""

import dataclasses
import types

import numpy as np
import pytest

import kernels
from appliance.errors import ContentRefused
from appliance.training.config import ModelConfig
from appliance.training.data import Batch, HeldOut
from appliance.training.lanes import Lanes, thread_count
from appliance.training.layout import Buffer
from appliance.training.model import GPT, Place

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
    found_loss, found = Lanes(built(4), size, 2).loss_and_gradient(batch)
    assert found_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(found.flat, expected.flat, rtol=1e-9, atol=1e-13)


def test_bits_do_not_depend_on_the_number_of_threads():
    seen = set()
    stream = np.random.default_rng(0).integers(0, 256, 500).astype(np.uint8)
    for threads in (1, 2, 3, 8):
        lanes = Lanes(built(4, np.float32), 6, threads)
        for _ in range(2):
            loss, gradient = lanes.loss_and_gradient(batch_of(6))
            seen.add((loss, gradient.flat.tobytes(), lanes.evaluate(HeldOut(stream, 499))))
    assert len(seen) == 1


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_gradient_of_gathered_batches_is_that_of_one_large_batch(size):
    batch = batch_of(3 * size)
    expected_loss, expected = Lanes(built(1), 3 * size, 1).loss_and_gradient(batch)
    loss, found = Lanes(built(4), size, 2).loss_and_gradient(batch)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(found.flat, expected.flat, rtol=1e-9, atol=1e-13)


def test_masks_of_a_dropout_do_not_depend_on_lanes_or_gathering():
    config = dataclasses.replace(CONFIG, dropout=0.3)
    batch, seen = batch_of(6), []
    for lanes, size in ((1, 6), (4, 6), (2, 3), (1, 1)):
        model = GPT(config, with_lanes(lanes), np.float64)
        model.initialise(1)
        _, gradient = Lanes(model, size, 2).loss_and_gradient(batch, Place(5, 3, 0))
        seen.append(gradient.flat.copy())
    for other in seen[1:]:
        np.testing.assert_allclose(other, seen[0], rtol=1e-9, atol=1e-13)
    _, later = Lanes(model, 1, 1).loss_and_gradient(batch, Place(5, 4, 0))
    assert (later.flat != seen[0]).any()


def test_more_threads_than_cores_are_refused_and_none_named_are_all(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 5})
    assert [thread_count(setting) for setting in (0, 1, 3)] == [3, 1, 3]
    with pytest.raises(ContentRefused, match=r"train\.threads: expected at most the 3 cores .*, found 4"):
        thread_count(4)
