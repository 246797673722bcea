"""Draws are functions of seed, purpose and counter, fixed for good, and distributed as they say."""

import numpy as np

from appliance.training import randomness
from appliance.training.randomness import Purpose


def test_the_stream_is_philox_as_published():
    # Known answer of Random123 for philox4x64-10 with key and counter zero, first word.
    generator = np.random.Philox(key=[0, 0], counter=[2**64 - 1] * 4)  # NumPy counts up before it draws
    assert int(generator.random_raw(1)[0]) == 0x16554D9ECA36314C


def test_streams_of_other_seeds_purposes_and_counters_differ():
    streams = [
        randomness.raw(seed, purpose, counter, 64).tobytes()
        for seed in (0, 1, 2**63 - 1)
        for purpose in Purpose
        for counter in (0, 1, 10**9)
    ]
    assert len(set(streams)) == len(streams)
    assert (
        randomness.raw(1, Purpose.SHUFFLE, 3, 8).tobytes()
        == randomness.raw(1, Purpose.SHUFFLE, 3, 8).tobytes()
    )


def test_a_shorter_draw_is_the_beginning_of_a_longer_one():
    assert (randomness.raw(1, Purpose.SHUFFLE, 0, 3) == randomness.raw(1, Purpose.SHUFFLE, 0, 9)[:3]).all()


def test_integers_fill_their_range_evenly():
    draws = randomness.integers(3, Purpose.SHUFFLE, 0, count=20_000, below=7)
    counts = np.bincount(draws, minlength=7)
    assert len(counts) == 7
    assert abs(counts - 20_000 / 7).max() < 250  # five standard deviations


def test_uniform_draws_never_touch_the_ends_and_normal_ones_have_their_moments():
    draws = randomness.uniform(3, Purpose.SAMPLE, 0, 20_000)
    assert 0.0 < draws.min() < draws.max() < 1.0
    assert abs(draws.mean() - 0.5) < 0.01
    normal = randomness.normal(3, Purpose.INITIAL_WEIGHTS, 0, 20_001)
    assert normal.size == 20_001
    assert abs(normal.mean()) < 0.03
    assert abs(normal.std() - 1) < 0.03
    assert np.isfinite(normal).all()
