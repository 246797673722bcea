"""The watch tells what it finds from its own thread, and says when it does not look any more."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.isolation import checks, lookout, rtnetlink
from appliance.isolation.lookout import BLIND_AFTER_S, Lookout
from tests.hosts import write_host

ANSWER_S = 30.0


def link(index: int, name: str) -> rtnetlink.Change:
    return rtnetlink.Change("link", gone=False, index=index, name=name)


class Ear:
    """Hears what a watch tells."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, found) -> None:
        with self._changed:
            self.heard += found
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def wait_for(self, words: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(words in each for each in self.heard), ANSWER_S), (
                self.heard
            )


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The links of the machine that runs the tests are not the question here."""
    monkeypatch.setattr(
        rtnetlink, "links", lambda: [rtnetlink.Change("link", gone=False, index=1, name="lo")]
    )


@pytest.fixture
def watched(tmp_path: Path):
    """Start watches over a sound host that are stopped after the test."""
    started = []

    def start(ear, look=None, **more):
        host = write_host(tmp_path / f"host{len(started)}")
        watch = Lookout(ear, look=look or (lambda: checks(host)), period_s=0.02, **more)
        watch.start()
        started.append(watch)
        return watch, host

    yield start
    for watch in started:
        watch.stop()


def test_a_sound_host_is_isolated_once_it_was_looked_at(watched):
    ear = Ear()
    fresh = Lookout(ear)
    assert not fresh.isolated, "nothing was looked at yet"
    watch, _ = watched(ear)
    while not watch.isolated:
        pass
    assert ear.heard == []
    assert watch.lacks == ()


def test_each_look_tells_what_is_wrong_from_the_watch_s_own_thread(watched):
    ear = Ear()
    watch, host = watched(ear)
    (host / "proc/sys/fs/suid_dumpable").write_text("2\n")
    ear.wait_for("memory.suid-dumpable: '2'")
    assert not watch.isolated
    assert ear.threads == {"watch"}


def test_a_look_that_fails_is_told_and_not_isolated(watched):
    def fails():
        raise OSError(5, "the disk is gone")

    ear = Ear()
    watch, _ = watched(ear, fails)
    ear.wait_for("a look at the host failed: [Errno 5] the disk is gone")
    assert not watch.isolated


def test_a_look_that_hangs_makes_the_watch_blind(watched):
    let_go = threading.Event()
    passed = [1000.0]
    watch, _ = watched(Ear(), lambda: let_go.wait(ANSWER_S) and (), monotonic=lambda: passed[0])
    assert not watch.blind
    passed[0] += BLIND_AFTER_S + 1
    assert watch.blind
    assert watch.blind_s > BLIND_AFTER_S
    assert not watch.isolated
    let_go.set()


def test_a_host_that_was_isolated_counts_only_while_it_is_looked_at(watched):
    passed = [1000.0]
    ear = Ear()
    watch, _ = watched(ear, monotonic=lambda: passed[0])
    watch.look()
    assert watch.isolated
    passed[0] += BLIND_AFTER_S + 1
    watch._beat = 1000.0
    assert not watch.isolated


def test_a_link_that_the_list_shows_is_found_without_any_message(watched, monkeypatch):
    ear = Ear()
    watched(ear)
    monkeypatch.setattr(
        rtnetlink, "links", lambda: [rtnetlink.Change("link", gone=False, index=7, name="tun0")]
    )
    ear.wait_for("link there: tun0")


def test_a_host_that_gives_no_such_socket_is_told_to_lack_it(watched, monkeypatch):
    def refused():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(lookout.rtnetlink, "Monitor", refused)
    watch, _ = watched(Ear())
    assert watch.lacks == ("rtnetlink: Operation not permitted",)
