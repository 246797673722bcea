"""The optimizer of the CUDA sources: the step of the reference, and the bf16 copy that products read."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import reference
from kernels.cuda import launches
from tests.kernels.cpu.conftest import narrow, off, wide
from tests.kernels.cpu.test_ops import BFLOAT16, Draw

RATES = {
    "learning_rate": 1e-2,
    "beta1": 0.9,
    "beta2": 0.95,
    "epsilon": 1e-8,
    "weight_decay": 0.1,
    "gradient_scale": 0.5,
}


def rates_at(step):
    eta, b1, b2 = RATES["learning_rate"], RATES["beta1"], RATES["beta2"]
    values = [eta / (1 - b1 ** (step + 1)), 1 / (1 - b2 ** (step + 1)), b1, 1 - b1, b2, 1 - b2]
    values += [RATES["epsilon"], 1 - eta * RATES["weight_decay"], RATES["gradient_scale"]]
    return np.array(values, np.float32)


def step_of(device, count, *, stochastic, steps=1, copy=True, seed=3):
    draw = Draw("fp32")
    state = [
        draw.stream(count),
        draw.stream(count) * np.float32(1e-2),
        np.abs(draw.stream(count)) * np.float32(1e-3),
    ]
    exact = [wide(array) for array in state]
    gradients, narrowed = draw.stream(count), np.zeros(count, BFLOAT16) if copy else None
    how = launches.adamw(stochastic=stochastic, count=count)
    for step in range(steps):
        place = np.array([seed, 7, step, 0], np.uint32)
        device(
            how,
            **dict(zip(("parameters", "first", "second"), state, strict=True)),
            copy=narrowed,
            gradients=gradients,
            rates=rates_at(step),
            place=place,
            count=count,
        )
        reference.adamw_step(*exact, gradients=wide(gradients), step=step, **RATES)
    return state, exact, narrowed


@pytest.mark.parametrize("count", [1, 31, 1030])
def test_adamw_makes_the_step_of_the_reference(device, count):
    state, exact, narrowed = step_of(device, count, stochastic=False, steps=3)
    for found, expected in zip(state, exact, strict=True):
        assert off(found, expected) < 1e-6
    assert (narrowed == narrow(state[0])).all()
    without, _, _ = step_of(device, count, stochastic=False, steps=3, copy=False)
    assert (without[0] == state[0]).all()


def test_rounding_by_chance_keeps_the_mean_and_follows_from_the_place(device):
    state, _, narrowed = step_of(device, 4096, stochastic=True)
    low = (state[0].view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    high = ((state[0].view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32).astype(np.float64)
    rounded, exact = wide(narrowed), wide(state[0])
    assert ((rounded == low) | (rounded == high)).all()
    # Rounding up has the chance of what is lost: over 4,096 elements the mean is off by less than 5 sigma.
    share = (exact - low) / (high - low)
    assert abs((rounded == high).mean() - share.mean()) < 5 * 0.5 / 64
    again = step_of(device, 4096, stochastic=True)[2]
    other = step_of(device, 4096, stochastic=True, seed=4)[2]
    assert (again == narrowed).all()
    assert (other != narrowed).any()
