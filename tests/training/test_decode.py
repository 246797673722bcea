"""Token by token with cached keys and values comes to what the whole forward pass comes to."""

import numpy as np
import pytest

import kernels
from appliance.errors import UsageError
from appliance.training.config import ModelConfig
from appliance.training.decode import Decoder
from appliance.training.model import GPT

CHOICES = {
    "gpt2": {},
    "rotary": {"positions": "rotary"},
    "rmsnorm": {"norm": "rmsnorm"},
    "swiglu": {"activation": "swiglu"},
    "untied": {"tied_head": False},
    "llama": {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "tied_head": False},
}
T = 24


@pytest.fixture(params=CHOICES, ids=str)
def model(request):
    config = ModelConfig(layers=2, width=16, heads=2, context=T, vocabulary=50, **CHOICES[request.param])
    made = GPT(config, kernels.backend("reference"), np.float64)
    made.initialise(1)
    made.parameters.flat[:] += np.random.default_rng(1).normal(0, 0.05, made.parameters.flat.shape)
    return made


def whole(model, tokens):
    """Logits after the last of some tokens, by the full forward pass."""
    padded = np.zeros((1, T), dtype=np.int64)
    padded[0, : len(tokens)] = tokens
    return model.forward(model.arena(1, T), padded)[len(tokens) - 1].copy()


@pytest.mark.parametrize("begin", [1, 5, 17, T])
def test_each_token_of_a_window_gives_the_logits_of_the_whole(model, begin):
    tokens = [int(token) for token in np.random.default_rng(2).integers(0, 50, T)]
    decoder = Decoder(model)
    np.testing.assert_allclose(
        decoder.read(tokens[:begin]), whole(model, tokens[:begin]), rtol=1e-9, atol=1e-11
    )
    for count in range(begin + 1, T + 1):
        assert not decoder.full
        found = decoder.add(tokens[count - 1])
        np.testing.assert_allclose(found, whole(model, tokens[:count]), rtol=1e-9, atol=1e-11)
    assert decoder.full


def test_a_window_that_is_read_anew_knows_nothing_of_the_one_before(model):
    used, fresh = Decoder(model), Decoder(model)
    used.read(list(range(T)))
    np.testing.assert_array_equal(used.read([7, 8, 9]), fresh.read([7, 8, 9]))
    np.testing.assert_array_equal(used.add(3), fresh.add(3))


@pytest.mark.parametrize("count", [0, T + 1])
def test_a_window_of_another_size_is_refused(model, count):
    with pytest.raises(UsageError, match=f"expected a window of 1 to {T} tokens, found {count}"):
        Decoder(model).read([1] * count)
