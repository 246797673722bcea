"""The rate rises, peaks once, and falls to its minimum at the last step, by each of the schedules."""

import itertools

import pytest

from appliance.training.schedule import learning_rate


@pytest.fixture
def rates_of(config_of):
    def rates(**train):
        run = config_of(**{"learning_rate": 0.01, "min_learning_rate": 0.001, **train}).train
        return [learning_rate(run, step) for step in range(run.steps)]

    return rates


@pytest.mark.parametrize("schedule", ['"cosine"', '"linear"', '"stable"'])
def test_the_rate_rises_to_the_peak_then_falls_to_the_minimum(rates_of, schedule):
    rates = rates_of(steps=100, warmup_steps=10, schedule=schedule)
    assert rates[0] == pytest.approx(0.01 / 11)
    assert rates[10] == max(rates) == 0.01
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.001)


def test_a_cosine_is_halfway_down_in_the_middle_and_slow_at_its_ends(rates_of):
    rates = rates_of(steps=100, warmup_steps=10)
    assert rates[10 + 44] == pytest.approx((0.01 + 0.001) / 2, rel=0.02)
    assert rates[10] - rates[14] < 0.2 * (rates[52] - rates[56])


def test_a_line_falls_by_equal_amounts(rates_of):
    rates = rates_of(steps=100, warmup_steps=10, schedule='"linear"')
    falls = [before - after for before, after in itertools.pairwise(rates[10:])]
    assert falls == pytest.approx([falls[0]] * len(falls))


def test_a_stable_rate_falls_in_its_last_steps_only(rates_of):
    rates = rates_of(steps=100, warmup_steps=10, schedule='"stable"', decay_fraction=0.3)
    assert rates[10:70] == [0.01] * 60
    assert rates[70] < 0.01
    assert rates[84] == pytest.approx((0.01 + 0.001) / 2)
    whole = rates_of(steps=100, warmup_steps=10, schedule='"stable"', decay_fraction=1.0)
    assert whole == rates_of(steps=100, warmup_steps=10, schedule='"linear"')
    assert rates_of(steps=10, warmup_steps=2, schedule='"stable"', decay_fraction=0.0)[2:] == [0.01] * 7 + [
        0.01
    ]


@pytest.mark.parametrize("schedule", ['"cosine"', '"linear"', '"stable"'])
def test_without_a_warm_up_the_first_step_has_the_peak(rates_of, schedule):
    assert rates_of(steps=1, warmup_steps=0, schedule=schedule) == [0.01]
