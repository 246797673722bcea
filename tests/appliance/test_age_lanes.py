"""Work side by side: everything once, results in order, the first error alone, and no thread left behind."""

from __future__ import annotations

import threading

import pytest

from appliance.age import lanes
from appliance.age.lanes import lane_count, numbers, side_by_side


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("tools", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 100])
def test_every_item_is_worked_on_once_and_emitted_in_order(tools, count):
    seen, emitted = [], []
    side_by_side(range(tools), numbers(count), lambda _, item: seen.append(item) or item, emitted.append)
    assert sorted(seen) == emitted == list(range(count))


def test_no_two_lanes_share_a_tool():
    busy = [threading.Lock() for _ in range(4)]

    def work(lock, _):
        assert lock.acquire(blocking=False)
        lock.release()

    side_by_side(busy, numbers(200), work)


def test_lanes_run_at_the_same_time():
    meeting = threading.Barrier(3)
    side_by_side(range(3), numbers(3), lambda _, __: meeting.wait(timeout=60))


@pytest.mark.parametrize("bad", [0, 7, 19])
def test_an_error_ends_all_lanes_and_is_the_one_that_is_raised(bad):
    emitted = []

    def work(_, item):
        if item == bad:
            raise ValueError(f"item {item}")
        return item

    with pytest.raises(ValueError, match=f"item {bad}"):
        side_by_side(range(3), numbers(20), work, emitted.append)
    assert emitted == list(range(len(emitted)))
    assert bad not in emitted


def test_an_error_of_the_source_ends_the_work():
    given = iter(range(5))

    def take(_):
        item = next(given, None)
        if item is None:
            raise OSError("unreadable")
        return item

    emitted = []
    with pytest.raises(OSError, match="unreadable"):
        side_by_side(range(3), take, lambda _, item: item, emitted.append)
    assert emitted == list(range(len(emitted)))


def test_an_error_of_the_receiver_stops_the_work():
    emitted = []

    def emit(item):
        emitted.append(item)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        side_by_side(range(3), numbers(50), lambda _, item: item, emit)
    assert emitted == [0]


def test_a_process_that_may_start_no_thread_works_alone(monkeypatch):
    def refused(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    here, seen = threading.get_ident(), []
    side_by_side(range(4), numbers(9), lambda tool, item: seen.append((tool, item, threading.get_ident())))
    assert seen == [(0, item, here) for item in range(9)]


def test_as_many_lanes_as_cores_within_the_bound(monkeypatch):
    monkeypatch.setattr(lanes.os, "sched_getaffinity", lambda _: set(range(3)))
    assert lane_count() == 3
    monkeypatch.setattr(lanes.os, "sched_getaffinity", lambda _: set(range(96)))
    assert lane_count() == 8
