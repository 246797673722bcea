"""What may leave: counted by the log's time alone, which no clock can turn back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.egress import (
    CONTENTS,
    DAY_S,
    DEFAULTS,
    MAX_TEXT_CHARS,
    Charge,
    LogClock,
    Used,
    check_budgets,
    parse_budgets,
    room_at,
    used,
)
from appliance.errors import UsageError

BEGIN = datetime(2031, 5, 4, 9, tzinfo=UTC)
LIMITS = {"bytes": 100, "count": 3, "recipient_bytes": 60, "recipient_count": 2}
BUDGETS = {"period": {"days": 7}, **dict.fromkeys(CONTENTS, LIMITS)}


def at(seconds: float) -> str:
    return (BEGIN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def clock_of(*seconds: float) -> LogClock:
    clock = LogClock()
    for each in seconds:
        clock.feed(at(each))
    return clock


def left(*charges: tuple[float, str, int]) -> list[Charge]:
    return [
        Charge(index, second, "weights", recipient, size)
        for index, (second, recipient, size) in enumerate(charges)
    ]


def test_time_goes_forward_with_the_newest_entry():
    clock = clock_of(0, 10, 25)
    assert (clock.seconds, clock.latest, clock.now()) == (25.0, at(25), BEGIN + timedelta(seconds=25))
    assert (clock.ahead_s(at(30)), clock.ahead_s(at(20)), LogClock().ahead_s(at(5))) == (5.0, 0.0, 0.0)


@given(st.lists(st.integers(-1_000_000, 1_000_000), min_size=1, max_size=20))
def test_no_turning_of_a_clock_counts_twice(seconds):
    """However often a clock is turned back and forward again, only what is beyond the newest time counts."""
    assert clock_of(*seconds).seconds == max(seconds) - seconds[0]


def test_a_clock_that_officers_set_counts_nothing_for_the_step():
    clock = clock_of(0, 10, 400 * DAY_S)
    for moment in (5, 900 * DAY_S, 7):
        clock.set(at(moment))
        assert clock.seconds == 400 * DAY_S
    clock.feed(at(8))
    assert clock.seconds == 400 * DAY_S + 1


def test_what_is_to_come_is_told_to_the_second():
    clock = clock_of(0, 10)
    assert clock.moment(70.0) == "2031-05-04T09:01:11Z"
    assert clock.moment(0.0) == "2031-05-04T09:00:11Z"


def test_what_left_is_counted_in_all_and_for_one():
    charges = [*left((0, "a", 10), (5, "b", 20), (9, "a", 30)), Charge(9, 9, "text", "a", 7)]
    assert used(charges, "weights", "a", -1) == Used(60, 3, 40, 2)
    assert used(charges, "weights", "a", 0) == Used(50, 2, 30, 1)
    assert used(charges, "metrics", "a", -1) == Used(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("charges", "recipient", "size", "room"),
    [
        ([], "a", 60, 50.0),
        ([], "a", 61, None),
        ([(10, "a", 30)], "a", 30, 50.0),
        ([(10, "a", 31)], "a", 30, 10.0 + 7 * DAY_S),
        ([(10, "a", 31)], "b", 60, 50.0),
        ([(10, "a", 41)], "b", 60, 10.0 + 7 * DAY_S),
        ([(10, "a", 1), (20, "a", 1)], "a", 1, 10.0 + 7 * DAY_S),
        ([(10, "a", 1), (20, "b", 1), (30, "c", 1)], "d", 1, 10.0 + 7 * DAY_S),
        ([(10, "a", 60), (20, "b", 40)], "b", 60, 20.0 + 7 * DAY_S),
    ],
)
def test_room_is_there_or_comes_when_enough_is_old(charges, recipient, size, room):
    assert room_at(BUDGETS, left(*charges), "weights", recipient, size, 50.0) == room


def test_each_limit_is_named():
    assert Used(100, 3, 60, 2).beyond(LIMITS, 1) == ("bytes", "count", "recipient_bytes", "recipient_count")
    assert Used(0, 0, 0, 0).beyond(LIMITS, 60) == ()


def test_limits_as_people_write_them_are_filled_in():
    budgets = parse_budgets("[period]\ndays = 1\n[text]\ncount = 0\n")
    assert budgets["period"] == {"days": 1}
    assert budgets["text"] == {**DEFAULTS["text"], "count": 0}
    assert budgets["weights"] == DEFAULTS["weights"]
    assert check_budgets(budgets) == budgets


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[weights", "expected TOML"),
        ("[model]\nbytes = 1", "expected tables named period, weights, text, metrics"),
        ("weights = 1", "budget, weights: expected bytes, count"),
        ("[weights]\nbites = 1", "budget, weights: expected bytes, count"),
        ("[weights]\nbytes = -1", "expected bytes as a whole number, found -1"),
        ("[weights]\nbytes = 1.5", "expected bytes as a whole number, found 1.5"),
        ("[weights]\nbytes = true", "expected bytes as a whole number, found True"),
        ("[weights]\nbytes = 9999999999999999", "expected bytes as a whole number"),
        ("[period]\ndays = 0", "expected days as a whole number, found 0"),
        ("#" * (MAX_TEXT_CHARS + 1), "at most 16384 characters"),
    ],
)
def test_what_is_no_budget_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        parse_budgets(text)


def test_a_logged_value_of_another_type_is_refused():
    with pytest.raises(UsageError, match="expected tables named"):
        check_budgets([])
