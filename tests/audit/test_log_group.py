"""Many threads at one log: one fsync and one signature for all that wait, and one failure too."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

import audit.commit
from audit.entry import parse_entry
from audit.errors import Invalid, LogUnavailable, Malformed
from audit.receipt import verify_receipt
from audit.verify import verify_log

THREADS = 24


class Gathering:
    """Stands in for `fdatasync`: holds the first commit until all other threads wait behind it."""

    def __init__(self, monkeypatch, log, waiting, *, fails=False):
        self.real, self.log, self.waiting, self.fails, self.calls = os.fdatasync, log, waiting, fails, 0
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, fd):
        self.calls += 1
        if self.calls == 1:
            deadline = time.monotonic() + 0.5
            while len(self.log._group._waiting) < self.waiting and time.monotonic() < deadline:
                time.sleep(0.001)
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.real(fd)


def ask(log, all_records):
    """Append each list of records in a thread of its own, the first one ahead; returns answers by number."""
    answers = {}

    def work(number, records):
        try:
            answers[number] = log.append(records)
        except Exception as failure:  # noqa: BLE001  whatever a thread is answered with is looked at
            answers[number] = failure

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(all_records)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return answers


def test_all_who_wait_share_one_fsync_and_one_signature_and_each_has_its_own_receipt(
    logs, signer, record, monkeypatch
):
    log = logs.create()
    synced = Gathering(monkeypatch, log, THREADS - 1)
    answers = ask(log, [[record(number)] for number in range(THREADS)])
    assert synced.calls <= 3  # the first, those behind it, and who came late on a loaded machine
    notes = set()
    for number, (committed,) in answers.items():
        shown = verify_receipt(committed.receipt, committed.entry, signer.vkey)
        assert shown.index == committed.index
        assert shown.entry.resource == f"weights/{number}"
        assert log.entry(committed.index) == committed.entry
        notes.add(shown.head)
    assert len(notes) == synced.calls
    assert sorted(answer[0].index for answer in answers.values()) == list(range(THREADS))
    assert [parse_entry(entry).seq for entry in log.entries()] == list(range(THREADS))
    log.close()
    assert verify_log(logs.home, signer.vkey).size == THREADS


def test_the_records_of_one_caller_stay_together_in_a_shared_commit(logs, record, monkeypatch):
    log = logs.create()
    Gathering(monkeypatch, log, 5)
    for committed in ask(log, [[record(n) for n in range(7)] for _ in range(6)]).values():
        first = committed[0].index
        assert [made.index for made in committed] == list(range(first, first + 7))
        assert [parse_entry(made.entry).context["number"] for made in committed] == list(range(7))


def test_a_group_that_crosses_a_tile_has_receipts_that_verify(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record()] * 250)
    Gathering(monkeypatch, log, THREADS - 1)
    for (made,) in ask(log, [[record(number)] for number in range(THREADS)]).values():
        assert verify_receipt(made.receipt, made.entry, signer.vkey).index == made.index


def test_a_failing_commit_fails_everyone_who_waits(logs, signer, record, monkeypatch):
    log = logs.create()
    with monkeypatch.context() as patch:
        Gathering(patch, log, THREADS - 1, fails=True)
        answers = ask(log, [[record(number)] for number in range(THREADS)])
    assert len({id(answer) for answer in answers.values()}) == THREADS  # each raises an exception of its own
    for answer in answers.values():
        assert isinstance(answer, LogUnavailable)
        assert "Input/output error" in str(answer)
        assert answer.__cause__ is not None
    log.close()
    assert logs.open().size == 0


def test_a_record_that_may_not_be_logged_stops_nobody_else(logs, signer, record, monkeypatch):
    log = logs.create()
    Gathering(monkeypatch, log, 5)
    asked = [[record(number)] for number in range(6)]
    asked[3] = [record(), record(context={"loss": 0.5})]
    answers = ask(log, asked)
    failure = answers.pop(3)
    assert isinstance(failure, Malformed)
    assert sorted(made.index for (made,) in answers.values()) == list(range(5))
    for (made,) in answers.values():
        verify_receipt(made.receipt, made.entry, signer.vkey)


def test_proofs_that_do_not_lead_to_the_root_stop_the_log_before_it_signs(logs, record, monkeypatch):
    log = logs.create()
    log.append([record(1)])
    before = log._wal.size
    head = log.tree_head()

    def wrong(*_):
        while log._wal.size == before:  # the disk has the group, and now waits for what is to be signed
            time.sleep(0.001)
        return [[]], bytes(32)

    monkeypatch.setattr(audit.commit, "newest_proofs", wrong)
    with pytest.raises(Invalid, match="do not lead to its root"):
        log.append([record(2)])
    with pytest.raises(LogUnavailable, match="the log has stopped: the proofs of a group"):
        log.append([record(3)])
    assert (log.size, log.tree_head()) == (1, head)
