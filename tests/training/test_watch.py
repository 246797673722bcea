"""What a run remembers of its losses comes back to the last bit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContentRefused
from appliance.training.watch import Watch, parse_watch

FINITE = st.floats(0, 1e300)


@given(FINITE, FINITE | st.just(math.inf), st.integers(0, 10**6), st.integers(-1, 10**9))
def test_a_watch_makes_a_round_trip(mean, best, idle, judged):
    watch = Watch(mean, best, idle, judged)
    assert parse_watch(watch.encode()) == watch


@given(st.text(max_size=60))
def test_other_text_is_refused(text):
    with pytest.raises(ContentRefused, match="expected a watch of four numbers"):
        parse_watch(text)


def test_the_first_loss_is_the_mean_and_later_ones_move_it_slowly():
    watch = Watch().after_step(4.0)
    assert watch.mean_loss == 4.0
    assert watch.after_step(5.0).mean_loss == pytest.approx(4.02)
    assert Watch().limit(2.0) == math.inf
    assert watch.limit(0.0) == math.inf
    assert watch.limit(2.0) == 8.0


def test_evaluations_count_once_each_and_a_gain_begins_anew():
    watch = Watch()
    for step, figure, idle in ((0, 8.0, 0), (10, 8.5, 1), (10, 8.6, 1), (20, 8.0, 2), (30, 7.9, 0)):
        watch = watch.after_evaluation(step, figure)
        assert (watch.idle, watch.judged_step) == (idle, step)
    assert watch.best == 7.9
