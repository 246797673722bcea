"""The rate rises, peaks once, and falls to its minimum at the last step."""

import pytest

from appliance.training.schedule import learning_rate


def test_the_rate_rises_to_the_peak_then_falls_to_the_minimum(config_of):
    run = config_of(steps=100, warmup_steps=10, learning_rate=0.01, min_learning_rate=0.001).train
    rates = [learning_rate(run, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.01 / 11)
    assert rates[10] == max(rates) == 0.01
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.001)
    assert rates[10 + 44] == pytest.approx((0.01 + 0.001) / 2, rel=0.02)


def test_without_a_warm_up_the_first_step_has_the_peak(config_of):
    run = config_of(steps=1, warmup_steps=0, learning_rate=0.01).train
    assert learning_rate(run, 0) == 0.01
