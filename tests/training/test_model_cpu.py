"""The decoder on the CPU backend: its gradient beside the float64 reference's, in every choice of the config.

Tolerance: float32 rounds to 6e-8, a few dozen operations deep some 1e-6 of the gradient's length. bf16 rounds
activations and factors to 4e-3; over a few layers that is about 1e-2 of the gradient, and 2e-2 leaves
room for the small widths of these tests. A wrong term is of the order of the gradient itself.
"""

import dataclasses

import numpy as np
import pytest

import kernels
from appliance.training.config import ModelConfig
from appliance.training.layout import Buffer
from appliance.training.model import GPT, Place
from kernels.cpu.library import instruction_sets
from kernels.errors import BackendMissing

BASE = ModelConfig(layers=2, width=48, heads=2, context=40)
CHOICES = {
    "gpt-2": {},
    "a head of its own": {"tied_head": False},
    "rotary": {"positions": "rotary"},
    "rms norm": {"norm": "rmsnorm"},
    "swiglu": {"activation": "swiglu"},
    "dropout": {"dropout": 0.2},
    "everything": {
        "tied_head": False,
        "positions": "rotary",
        "norm": "rmsnorm",
        "activation": "swiglu",
        "dropout": 0.1,
        "vocabulary": 300,
    },
}
TOLERANCE = {"fp32": 5e-6, "bf16": 2e-2}


def is_built() -> bool:
    try:
        return bool(instruction_sets())
    except BackendMissing:
        return False


pytestmark = pytest.mark.skipif(not is_built(), reason="the cpu backend is not built: no compiler")


def gradient(config, backend, dtype, precision="fp32"):
    model = GPT(config, backend, dtype, precision)
    model.initialise(3)
    model.parameters.flat += np.random.default_rng(0).standard_normal(model.layout.size).astype(dtype) * 0.05
    random = np.random.default_rng(1)
    tokens, targets = (random.integers(0, config.vocabulary, (3, 40)) for _ in range(2))
    slopes = Buffer(model.layout, backend, dtype)
    loss = model.forward_backward(model.arena(3, 40), slopes, tokens, targets, place=Place(5, 2, 7))
    return loss, slopes.flat


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("choice", CHOICES)
def test_the_gradient_is_the_references(choice, precision):
    config = dataclasses.replace(BASE, **CHOICES[choice])
    expected_loss, expected = gradient(config, kernels.backend("reference"), np.float64)
    loss, found = gradient(config, kernels.backend("cpu"), np.float32, precision)
    assert abs(loss - expected_loss) < TOLERANCE[precision] * 0.2
    assert np.linalg.norm(found - expected) < TOLERANCE[precision] * np.linalg.norm(expected)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gradient_is_the_same_bits_on_any_number_of_threads(precision):
    first, again = (
        gradient(BASE, kernels.backend("cpu", threads=threads), np.float32, precision)
        for threads in (None, 1)
    )
    assert first[0] == again[0]
    assert first[1].tobytes() == again[1].tobytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_second_step_allocates_no_working_memory(precision):
    backend = kernels.backend("cpu")
    gradient(BASE, backend, np.float32, precision)
    grown = backend.engine.growths
    gradient(BASE, backend, np.float32, precision)
    assert backend.engine.growths == grown
