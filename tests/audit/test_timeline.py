from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from audit.bounded import Recent, Tally
from audit.timeline import BUCKETS, ISOLATED, ON, OPEN, SEALED, Bucket, State, Timeline
from tests.audit.story import day, entries


def test_entries_fall_into_seconds_while_there_is_room():
    timeline = Timeline()
    for second in (100.0, 100.9, 103.0):
        timeline.add(second, State(ON), allowed=second > 103 or None)
    assert (timeline.begin_s, timeline.width_s) == (100.0, 1.0)
    assert [bucket.entries for bucket in timeline.buckets] == [2, 0, 0, 1]


def test_a_longer_log_makes_wider_buckets_and_loses_nothing():
    timeline = Timeline()
    for number in range(1000):
        allowed = (True, False, None)[number % 3]
        timeline.add(number * 10.0, State(ON, OPEN if number > 500 else SEALED), allowed=allowed)
    assert len(timeline.buckets) <= BUCKETS
    assert timeline.width_s == 128
    assert sum(bucket.entries for bucket in timeline.buckets) == 1000
    assert sum(bucket.allowed for bucket in timeline.buckets) == 334
    assert sum(bucket.denied for bucket in timeline.buckets) == 333
    assert timeline.buckets[0].last.vault == SEALED
    assert timeline.buckets[-1].seen == {State(ON, OPEN)}


@given(st.lists(st.floats(-1e11, 1e11), min_size=1, max_size=50))
def test_no_clock_makes_the_timeline_grow_or_lose_an_entry(times):
    timeline = Timeline()
    for time in times:
        timeline.add(time, State(), allowed=True)
    assert len(timeline.buckets) <= BUCKETS
    assert sum(bucket.entries for bucket in timeline.buckets) == len(times)


def test_a_merged_stretch_ends_in_the_later_state_unless_that_is_empty():
    early = Bucket(1, 1, 0, {State(ON)}, State(ON))
    early.absorb(Bucket())
    assert early.last == State(ON)
    early.absorb(Bucket(2, 0, 1, {State(ON, OPEN, ISOLATED)}, State(ON, OPEN, ISOLATED)))
    assert early.last == State(ON, OPEN, ISOLATED)
    assert (early.entries, early.allowed, early.denied, len(early.seen)) == (3, 1, 1, 2)


def test_a_full_tally_counts_what_has_no_row():
    tally = Tally(2)
    for entry in entries(day())[:6]:
        tally.add(entry.kind, entry)
    assert [(kind, span.count, span.first, span.last) for kind, span in tally] == [
        ("genesis", 1, 0, 0),
        ("started", 1, 1, 1),
    ]
    assert tally.left_out == 4
    tally.add("started", entries(day())[32])
    assert (tally.rows["started"].count, tally.rows["started"].first, tally.rows["started"].last) == (
        2,
        1,
        32,
    )


def test_the_newest_things_are_kept_and_the_others_counted():
    recent = Recent(2)
    for name in "abc":
        assert recent.add(name, name.upper()) == name.upper()
    assert (list(recent), recent.left_out) == (["B", "C"], 1)
