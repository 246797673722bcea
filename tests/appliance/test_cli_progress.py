"""How a running job looks on a terminal and in a file."""

from __future__ import annotations

import io

import pytest

from appliance.cli.progress import QUIET_S, Lines, Pace, bar_text, duration_text


def event(step, elapsed_s, kind="progress", **figures):
    return {"seq": step, "kind": kind, "step": step, "steps": 100, "elapsed_s": elapsed_s, **figures}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def display(clock):
    return Lines(io.StringIO(), clock=clock)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (45.4, "45s"), (125, "2m05s"), (3599.6, "1h00m"), (11220, "3h07m")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration_text(seconds) == text


def test_the_bar_fills_and_never_overflows():
    assert bar_text(0, 100, 4) == "[....]"
    assert bar_text(50, 100, 4) == "[##..]"
    assert bar_text(200, 100, 4) == "[####]"
    assert bar_text(5, 0, 4) == "[....]"


def test_a_file_gets_a_line_every_few_seconds_and_every_milestone(clock):
    shown = display(clock)
    for second in range(12):
        clock.now = float(second)
        shown.show(event(second, second, loss=2.0))
    shown.show(event(12, 12, kind="evaluated", bits_per_byte=2.5))
    lines = shown.out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 0/100", "step 5/100", "step 10/100", "evaluated"]
    assert "\x1b" not in shown.out.getvalue()
    assert QUIET_S == 5.0


def test_the_newest_evaluation_stays_visible(clock):
    shown = display(clock)
    shown.show(event(10, 10, kind="evaluated", bits_per_byte=2.5))
    clock.now = 60.0
    shown.show(event(20, 20, loss=2.25, bits_per_byte=None))
    assert "2.500 bits/byte" in shown.out.getvalue().splitlines()[-1]


def test_what_comes_before_the_first_step_does_not_count_as_its_pace():
    pace = Pace()
    pace.note(event(0, 0.5, kind="started"))
    assert pace.note(event(0, 60.0, kind="evaluated")) is None
    assert pace.note(event(1, 60.1)) == pytest.approx(9.9)


def test_time_left_of_a_resumed_job_counts_only_steps_seen_here():
    pace = Pace()
    assert pace.note(event(50, 0.0)) is None
    assert pace.note(event(60, 20.0)) == 80.0


def test_an_end_tells_its_object_and_reason(clock):
    shown = display(clock)
    shown.show(event(40, 61.0, kind="stopped", object="abc", reason="asked\x1b[2J to"))
    assert shown.out.getvalue() == "stopped  step 40/100  after 1m01s  object abc  (asked\\x1b[2J to)\n"
