"""What a worker's figures can carry: steps that rise, four digits, and so many a second."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from appliance.custodian.telling import BURST, EVENTS_PER_S, Telling, bounded
from appliance.errors import ProtocolError
from appliance.worklink import Progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Heard:
    """A run that keeps what it is to tell."""

    def __init__(self):
        self.events = []

    def tell(self, kind, step, steps, **figures):
        self.events.append(SimpleNamespace(kind=kind, step=step, steps=steps, **figures))


def progress(step, steps=10**6, **figures):
    absent = dict.fromkeys(("loss", "bits_per_byte", "learning_rate", "tokens_per_s"), -1.0)
    return Progress(step, steps, **{**absent, **figures})


@pytest.fixture
def telling():
    heard, clock = Heard(), Clock()
    made = Telling(heard, 0, clock)
    made.began(0)
    made.heard, made.clock = heard, clock
    return made


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (2.3456789, 2.346),
        (0.0004567891, 0.0004568),
        (0.0, 0.0),
        (1e300, 100.0),
        (-0.5, -1.0),
        (99.99999, 100.0),
    ],
)
def test_a_loss_keeps_four_digits_within_what_a_loss_can_be(said, known):
    assert bounded(progress(1, loss=said)).loss == known


def test_figures_that_do_not_apply_are_told_as_absent(telling):
    telling.take(progress(0, bits_per_byte=7.83333))
    telling.take(progress(1, loss=2.5, learning_rate=0.0012345, tokens_per_s=12345.6))
    first, second = telling.heard.events
    assert (first.kind, first.bits_per_byte, first.loss) == ("evaluated", 7.833, None)
    assert (second.kind, second.learning_rate, second.tokens_per_s) == ("progress", 0.001234, 12350.0)


@pytest.mark.parametrize("step", [7, 6, 0, -1])
def test_a_step_that_does_not_rise_is_refused(telling, step):
    telling.take(progress(7))
    with pytest.raises(ProtocolError, match=f"told step {step} after one at or beyond it"):
        telling.take(progress(step))
    assert [event.step for event in telling.heard.events] == [7]


def test_a_step_beyond_the_run_and_a_run_of_another_length_are_refused(telling):
    telling.take(progress(1, steps=20))
    with pytest.raises(ProtocolError, match="told step 21 of 20"):
        telling.take(progress(21, steps=20))
    with pytest.raises(ProtocolError, match="its 20 steps are 30"):
        telling.take(progress(21, steps=30))
    fresh = Telling(Heard(), 0)
    fresh.began(0)
    with pytest.raises(ProtocolError, match="its 0 steps are 1000000001"):
        fresh.take(progress(1, steps=10**9 + 1))


def test_nothing_is_told_of_before_the_run_has_begun_nor_of_steps_before_it():
    telling = Telling(Heard(), 20)
    with pytest.raises(ProtocolError, match="before it said where it begins"):
        telling.take(progress(1, steps=20))
    telling.began(10)
    with pytest.raises(ProtocolError, match="told step 9"):
        telling.take(progress(9, steps=20))
    telling.take(progress(10, steps=20))


def test_checkpoints_keep_to_the_order_of_the_run(telling):
    telling.take(progress(0, steps=20))
    telling.checkpoint(10)
    for step in (10, 9, -1):
        with pytest.raises(ProtocolError, match=f"told step {step} after"):
            telling.checkpoint(step)
    with pytest.raises(ProtocolError, match="a checkpoint of step 21 of 20"):
        telling.checkpoint(21)
    telling.checkpoint(20)


def test_figures_beyond_the_rate_are_held_back_and_the_last_evaluation_is_not_lost(telling):
    for step in range(1000):
        telling.take(progress(step, bits_per_byte=2.0 + step / 1000))
    assert len(telling.heard.events) == BURST
    telling.clock.now += 10
    for step in range(1000, 2000):
        telling.take(progress(step, loss=1.0))
    assert len(telling.heard.events) == BURST + 10 * EVENTS_PER_S
    telling.take(progress(2000, bits_per_byte=1.5))
    telling.take(progress(2001, loss=1.0))  # displaces no evaluation
    telling.end()
    last = telling.heard.events[-1]
    assert (last.kind, last.step, last.bits_per_byte) == ("evaluated", 2000, 1.5)
    steps = [event.step for event in telling.heard.events]
    assert steps == sorted(set(steps))
    telling.end()
    assert len(telling.heard.events) == len(steps)
