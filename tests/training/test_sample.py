"""A sample is a function of weights, prompt, settings and seed, and never holds a NUL."""

import numpy as np
import pytest

import kernels
from appliance.errors import UsageError
from appliance.training.config import ModelConfig
from appliance.training.model import GPT
from appliance.training.sample import SampleSettings, choose, sample

CONFIG = ModelConfig(layers=1, width=8, heads=1, context=8)


@pytest.fixture
def model():
    fresh = GPT(CONFIG, kernels.backend())
    fresh.initialise(1)
    return fresh


def text(model, prompt=b"abc", **settings):
    return b"".join(sample(model, prompt, SampleSettings(**{"length": 40, **settings})))


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model):
    assert text(model, seed=5) == text(model, seed=5)
    assert text(model, seed=5) != text(model, seed=6)
    assert text(model, seed=5) != text(model, prompt=b"xyz", seed=5)


def test_bytes_come_one_by_one_and_as_many_as_asked(model):
    pieces = list(sample(model, b"", SampleSettings(length=25)))
    assert len(pieces) == 25
    assert all(len(piece) == 1 for piece in pieces)
    assert b"\0" not in b"".join(pieces)


def test_a_long_prompt_counts_by_its_end(model):
    assert text(model, prompt=b"y" * 500 + b"12345678") == text(model, prompt=b"x" * 20 + b"12345678")


def test_temperature_zero_takes_the_likeliest_byte_whatever_the_seed(model):
    assert text(model, temperature=0.0, seed=1) == text(model, temperature=0.0, seed=2)
    assert text(model, temperature=0.0) == text(model, top_k=1, seed=3)


def test_top_k_draws_only_from_the_k_likeliest_and_never_nul():
    logits = np.zeros(256)
    logits[[0, 65, 66, 67]] = [9.0, 3.0, 2.0, 1.0]
    settings = SampleSettings(length=1, temperature=1.0, top_k=2)
    draws = [choose(logits, draw, settings) for draw in np.linspace(0.001, 0.999, 200)]
    assert set(draws) == {65, 66}
    assert draws.count(65) == pytest.approx(200 * np.e / (1 + np.e), abs=2)


def test_draws_follow_the_distribution():
    logits = np.log(np.r_[1e-9, np.full(255, 1 / 255)])
    settings = SampleSettings(length=1, temperature=1.0)
    assert {choose(logits, draw, settings) for draw in np.linspace(0.0001, 0.9999, 2000)} == set(
        range(1, 256)
    )
    for draw in (1e-17, 1 - 1e-16):
        assert 1 <= choose(logits, draw, settings) <= 255


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "expected length from 1 to 1000000, found 0"),
        ({"temperature": -1.0}, r"expected temperature from 0\.0 to 100\.0, found -1\.0"),
        ({"temperature": float("nan")}, "found nan"),
        ({"top_k": 257}, "expected top_k from 0 to 256, found 257"),
        ({"seed": -1}, "expected seed from 0 to"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_the_first_byte(model, settings, message):
    with pytest.raises(UsageError, match=message):
        sample(model, b"", SampleSettings(**{"length": 5, **settings}))
