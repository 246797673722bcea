"""Group commit: one leader serves all who wait, each once, and nobody waits for one who has gone."""

from __future__ import annotations

import threading
import time

import pytest

from audit.group import Group, Request


class Server:
    """Answers groups; holds the first one until told, so that a queue gathers behind it."""

    def __init__(self, most=256):
        self.groups = []
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.fails = False
        self.group = Group(self, most)

    def __call__(self, requests):
        self.groups.append([request.records for request in requests])
        if len(self.groups) == 1:
            self.entered.set()
            assert self.go_on.wait(5)
            if self.fails:
                raise ZeroDivisionError
        for request in requests:
            request.committed = list(request.records)

    def wait_for(self, count):
        deadline = time.monotonic() + 5
        while len(self.group._waiting) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(self.group._waiting) == count


def submit(server, records, results):
    request = Request(records)
    try:
        server.group.submit(request)
    except BaseException as failure:  # noqa: BLE001  whatever a thread ends with is looked at
        results[records[0]] = failure
    else:
        results[records[0]] = request.committed


def start(server, count, results, size=1):
    """Start threads so that they queue in order; the first of all leads."""
    threads = []
    for number in range(count):
        thread = threading.Thread(target=submit, args=(server, [number] * size, results))
        thread.start()
        threads.append(thread)
        if number == 0:
            assert server.entered.wait(5)
        else:
            server.wait_for(number)
    return threads


def finish(server, threads):
    server.go_on.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_all_who_wait_are_served_together_in_the_order_of_asking():
    server, results = Server(), {}
    finish(server, start(server, 9, results))
    assert server.groups == [[[0]], [[number] for number in range(1, 9)]]
    assert results == {number: [number] for number in range(9)}


def test_a_group_never_holds_more_records_than_fit():
    server, results = Server(most=7), {}
    finish(server, start(server, 6, results, size=3))
    assert [len(group) for group in server.groups] == [1, 2, 2, 1]
    assert results == {number: [number] * 3 for number in range(6)}


def test_a_thread_alone_waits_for_nobody():
    server, results = Server(), {}
    server.go_on.set()
    for number in range(3):
        submit(server, [number], results)
    assert server.groups == [[[0]], [[1]], [[2]]]


def test_a_leader_that_fails_hands_on_the_lead():
    server, results = Server(), {}
    server.fails = True
    finish(server, start(server, 3, results))
    assert isinstance(results[0], ZeroDivisionError)
    assert (results[1], results[2]) == ([1], [2])


class Interrupted:
    """A lock whose `acquire` ends with an interrupt, as a signal handler ends it."""

    def __init__(self, real, leads=None):
        self.real, self.first, self.leads = real, True, leads

    def acquire(self):
        if self.first:
            self.first = False
            return self.real.acquire()
        if self.leads is not None:
            self.real.acquire()  # the lead arrives, and then the interrupt
        raise KeyboardInterrupt

    def release(self):
        self.real.release()


@pytest.mark.parametrize("leads", [None, True])
def test_a_thread_interrupted_while_it_waits_holds_nobody_up(leads):
    server, results = Server(), {}
    threads = start(server, 1, results)
    interrupted = Request(["gone"])
    interrupted.turn = Interrupted(interrupted.turn, leads)
    ended = []

    def wait():
        try:
            server.group.submit(interrupted)
        except KeyboardInterrupt:
            ended.append(True)

    gone = threading.Thread(target=wait)
    gone.start()
    if leads:
        server.wait_for(1)
    else:
        gone.join(5)
    last = threading.Thread(target=submit, args=(server, ["last"], results))
    last.start()
    server.wait_for(2 if leads else 1)
    finish(server, [*threads, gone, last])
    assert ended == [True]
    assert results == {0: [0], "last": ["last"]}
    assert server.groups == [[[0]], [["last"]]]
