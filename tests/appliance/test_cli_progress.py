"""How a running job looks on a terminal and in a file."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli.progress import ERASE_LINE, QUIET_S, Display, bar_text, duration_text


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


def display(clock, *, redraw, columns=120):
    return Display(io.StringIO(), redraw=redraw, clock=clock, columns=lambda: columns)


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
    shown = display(clock, redraw=False)
    for second in range(12):
        clock.now = float(second)
        shown.show(event(second, second, loss=2.0))
    shown.show(event(12, 12, kind="evaluated", bits_per_byte=2.5))
    lines = shown.out.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 0/100", "step 5/100", "step 10/100", "evaluated"]
    assert "\x1b" not in shown.out.getvalue()
    assert QUIET_S == 5.0


def test_a_terminal_gets_one_line_that_is_redrawn(clock):
    shown = display(clock, redraw=True)
    shown.show(event(10, 10, loss=2.5, tokens_per_s=3210.4))
    shown.show(event(20, 20, loss=2.25))
    frames = shown.out.getvalue().split(ERASE_LINE)
    assert frames == [
        "",
        "[##......................] step 10/100  loss 2.500  3,210 tokens/s",
        "[####....................] step 20/100  loss 2.250  3,210 tokens/s  1m20s left",
    ]


def test_the_newest_evaluation_stays_visible(clock):
    shown = display(clock, redraw=True)
    shown.show(event(10, 10, kind="evaluated", bits_per_byte=2.5))
    shown.show(event(20, 20, loss=2.25, bits_per_byte=None))
    assert "2.500 bits/byte" in shown.out.getvalue().split(ERASE_LINE)[-1]


def test_time_left_of_a_resumed_job_counts_only_steps_seen_here(clock):
    shown = display(clock, redraw=True)
    shown.show(event(50, 0.0))
    shown.show(event(60, 20.0))
    assert shown.out.getvalue().endswith("1m20s left")


def test_an_end_tells_its_object_and_reason(clock):
    shown = display(clock, redraw=False)
    shown.show(event(40, 61.0, kind="stopped", object="abc", reason="asked\x1b[2J to"))
    assert shown.out.getvalue() == "stopped  step 40/100  after 1m01s  object abc  (asked\\x1b[2J to)\n"


@given(st.integers(10, 200), st.integers(0, 10**9), st.floats(0, 1e6))
def test_a_redrawn_line_never_wraps(columns, step, loss):
    shown = display(Clock(), redraw=True, columns=columns)
    shown.show({**event(step, 1.0, loss=loss, tokens_per_s=1e9), "steps": 10**9})
    assert len(shown.out.getvalue().removeprefix(ERASE_LINE)) < columns
