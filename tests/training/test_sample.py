"""A sample is a function of weights, prompt, settings and seed, and never holds a separator."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from appliance.errors import UsageError
from appliance.training.config import ModelConfig
from appliance.training.model import GPT
from appliance.training.sample import SampleSettings, choose, draws, sample, until
from kernels.errors import BackendMissing

CONFIG = ModelConfig(layers=1, width=8, heads=1, context=8)


@pytest.fixture
def model():
    fresh = GPT(CONFIG, kernels.backend())
    fresh.initialise(1)
    fresh.parameters.flat[:] += np.random.default_rng(1).normal(0, 0.3, fresh.parameters.flat.shape)
    return fresh


def text(model, prompt=b"abc", **settings):
    return bytes(sample(model, prompt, SampleSettings(**{"length": 40, **settings})))


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model):
    assert text(model, seed=5) == text(model, seed=5)
    assert text(model, seed=5) != text(model, seed=6)
    assert len({text(model, prompt=prompt, seed=5) for prompt in (b"abc", b"xyz", b"123", b"---")}) > 1


def test_bytes_come_one_by_one_and_as_many_as_asked(model):
    tokens = list(sample(model, b"", SampleSettings(length=25)))
    assert len(tokens) == 25
    assert 0 not in tokens
    assert 65 not in list(sample(model, b"", SampleSettings(length=200, temperature=5.0), separator=65))


@pytest.mark.parametrize("backend", kernels.NAMES)
def test_a_sample_is_what_the_whole_forward_pass_draws_at_every_token(backend):
    """Beyond the context as well: then the later half of the window stays and is read anew."""
    model = GPT(ModelConfig(layers=2, width=16, heads=2, context=20), available(backend))
    model.initialise(3)
    settings = SampleSettings(length=70, temperature=1.5, top_k=30, top_p=0.9, seed=4)
    window, expected, T = [0, *b"begin"], [], 20
    arena = model.arena(1, T)
    for draw in itertools.islice(draws(settings.seed), settings.length):
        padded = np.zeros((1, T), dtype=np.int64)
        padded[0, : len(window)] = window
        logits = model.forward(arena, padded)[len(window) - 1].astype(np.float64)
        logits[0] = -np.inf
        expected.append(choose(logits, draw, settings))
        window = [*(window if len(window) < T else window[T // 2 :]), expected[-1]]
    assert list(sample(model, b"begin", settings)) == expected


def available(name):
    try:
        return kernels.backend(name)
    except BackendMissing as missing:
        pytest.skip(str(missing))


def test_a_long_prompt_counts_by_its_end(model):
    assert text(model, prompt=b"y" * 500 + b"12345678") == text(model, prompt=b"x" * 20 + b"12345678")


def test_temperature_zero_takes_the_likeliest_byte_whatever_the_seed(model):
    assert text(model, temperature=0.0, seed=1) == text(model, temperature=0.0, seed=2)
    assert text(model, temperature=0.0) == text(model, top_k=1, seed=3)


def test_top_k_draws_only_from_the_k_likeliest():
    logits = np.zeros(256)
    logits[[65, 66, 67]] = [3.0, 2.0, 1.0]
    settings = SampleSettings(length=1, temperature=1.0, top_k=2)
    draws = [choose(logits, draw, settings) for draw in np.linspace(0.001, 0.999, 200)]
    assert set(draws) == {65, 66}
    assert draws.count(65) == pytest.approx(200 * np.e / (1 + np.e), abs=2)


def test_draws_follow_the_distribution():
    logits = np.r_[-np.inf, np.log(np.full(255, 1 / 255))]
    settings = SampleSettings(length=1, temperature=1.0)
    assert {choose(logits, draw, settings) for draw in np.linspace(0.0001, 0.9999, 2000)} == set(
        range(1, 256)
    )
    for draw in (1e-17, 1 - 1e-16):
        assert 1 <= choose(logits, draw, settings) <= 255


@pytest.mark.parametrize(
    ("top_p", "drawn"), [(0.4, {7}), (0.5, {7}), (0.51, {7, 3}), (0.79, {7, 3}), (0.81, {7, 3, 9})]
)
def test_top_p_draws_from_the_fewest_that_reach_it(top_p, drawn):
    logits = np.full(12, -np.inf)
    logits[[7, 3, 9]] = np.log([0.5, 0.3, 0.2])
    settings = SampleSettings(length=1, temperature=1.0, top_p=top_p)
    assert {choose(logits, draw, settings) for draw in np.linspace(0.001, 0.999, 200)} == drawn


def test_of_equal_tokens_the_lower_numbers_are_the_k_likeliest():
    settings = SampleSettings(length=1, temperature=1.0, top_k=3)
    assert {choose(np.zeros(50), draw, settings) for draw in np.linspace(0.001, 0.999, 100)} == {0, 1, 2}


def pieces_of(text, cuts):
    edges = [0, *sorted(cuts), len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(edges)]


@given(
    text=st.lists(st.sampled_from([b"a", b"b"]), max_size=20).map(b"".join),
    stop=st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=4).map(b"".join),
    data=st.data(),
)
def test_a_text_ends_before_the_first_stop_however_it_is_cut(text, stop, data):
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=6))
    assert b"".join(until(pieces_of(text, cuts), stop)) == text.split(stop)[0]


def test_only_what_may_be_the_beginning_of_a_stop_is_held_back():
    assert list(until([b"one END", b"LESS E", b"ND two"], b"END")) == [b"one "]
    assert list(until([b"one E", b"N", b"two"], b"END")) == [b"one ", b"", b"ENtwo", b""]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "expected length from 1 to 1000000, found 0"),
        ({"temperature": -1.0}, r"expected temperature from 0\.0 to 100\.0, found -1\.0"),
        ({"temperature": float("nan")}, "found nan"),
        ({"top_k": -1}, "expected top_k from 0 to 1048576, found -1"),
        ({"top_p": 0.0}, "expected top_p from 1e-06 to 1.0, found 0"),
        ({"top_p": 1.1}, "expected top_p from"),
        ({"seed": -1}, "expected seed from 0 to"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_the_first_byte(model, settings, message):
    with pytest.raises(UsageError, match=message):
        sample(model, b"", SampleSettings(**{"length": 5, **settings}))
