"""The thread that waits for the disk: every job is answered, and an abandoned one does no more."""

from __future__ import annotations

import threading
import time

import pytest

from audit.disk import Disk, _Abandoned


@pytest.fixture
def disk():
    found = Disk(limit_s=0.1)
    yield found
    found.close(lambda: None)


@pytest.fixture
def hangs():
    """An operation that hangs until it is let go."""
    let_go = threading.Event()
    yield let_go
    let_go.set()


def test_a_job_is_run_in_the_thread_and_answered(disk):
    assert disk.run(threading.get_ident) != threading.get_ident()
    assert [disk.run(lambda number=number: number) for number in range(3)] == [0, 1, 2]


def test_what_a_job_raises_is_raised_where_it_is_waited_for_and_the_next_job_runs(disk):
    with pytest.raises(ZeroDivisionError):
        disk.run(lambda: 1 // 0)
    assert disk.run(lambda: 1) == 1


def test_other_work_is_done_while_the_job_waits(disk, hangs):
    def job():
        disk.waits()
        assert hangs.wait(5)
        return threading.get_ident()

    assert disk.run(job, hangs.set) != threading.get_ident()


def test_a_job_that_waits_is_answered_where_nobody_has_other_work(disk):
    assert disk.run(lambda: (disk.waits(), 1)[1]) == 1


def test_other_work_is_not_begun_before_the_job_says_that_it_waits(disk):
    done = []
    assert disk.run(lambda: list(done), lambda: done.append(True)) == []
    assert done == []


def test_an_operation_that_hangs_is_given_up(disk, hangs):
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"the disk did not answer within 0\.1 seconds"):
        disk.run(hangs.wait)
    assert 0.09 < time.monotonic() - began < 1


def test_a_long_job_of_short_operations_is_none_that_hangs(disk):
    def job():
        for _ in range(8):
            disk.step()
            time.sleep(0.04)
        return "done"

    assert disk.run(job) == "done"


def test_an_abandoned_job_begins_no_further_operation(disk, hangs):
    begun, ended = [], threading.Event()

    def job():
        try:
            for number in range(3):
                disk.step()
                begun.append(number)
                hangs.wait()
        except _Abandoned:
            ended.set()
            raise

    with pytest.raises(TimeoutError):
        disk.run(job)
    hangs.set()
    assert ended.wait(5)
    assert begun == [0]


def test_work_that_fails_meanwhile_leaves_the_job_behind(disk, hangs):
    ended = threading.Event()

    def job():
        disk.waits()
        hangs.wait()
        with pytest.raises(_Abandoned):
            disk.step()
        ended.set()

    with pytest.raises(ZeroDivisionError):
        disk.run(job, lambda: 1 // 0)
    hangs.set()
    assert ended.wait(5)


def test_what_a_job_uses_is_released_only_when_the_operation_came_back(hangs):
    disk = Disk(limit_s=0.05)
    released = threading.Event()
    with pytest.raises(TimeoutError):
        disk.run(hangs.wait)
    disk.close(released.set)
    assert not released.wait(0.1)
    hangs.set()
    assert released.wait(5)


def test_what_a_job_used_is_released_at_once_when_none_runs(disk):
    released = []
    disk.close(lambda: released.append(True))
    assert released == [True]


def test_what_an_abandoned_job_used_is_released_at_once_when_it_came_back_before(hangs):
    disk = Disk(limit_s=0.05)
    with pytest.raises(TimeoutError):
        disk.run(hangs.wait)
    hangs.set()
    deadline = time.monotonic() + 5
    while not disk._ended and time.monotonic() < deadline:
        time.sleep(0.005)
    released = []
    disk.close(lambda: released.append(True))
    assert released == [True]
