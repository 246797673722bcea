from __future__ import annotations

import pytest

from audit import summary as module
from audit.account import Account
from audit.summary import Summary
from audit.timeline import ISOLATED, NOT_ISOLATED, OFF, ON, OPEN, SEALED, State
from tests.audit.story import (
    APPLIANCE,
    CONFIG,
    WEIGHTS,
    approved,
    created,
    day,
    decision,
    entries,
    export_decision,
    exported,
    fact,
    use,
)


def tell(records, times=None):
    account, summary = Account(), Summary()
    for entry in entries(records, times):
        account.observe(entry)
        summary.observe(entry, account.owner_of)
    return summary


def gaps(summary):
    return [(gap.index, gap.kind) for gap in summary.gaps]


def started(pid=1):
    return fact("started", "Custodian:custodian", "start", APPLIANCE, pid=pid)


def ended():
    return fact("ended", "Custodian:custodian", "end", APPLIANCE)


def test_reads_are_told_by_object_person_purpose_and_rule():
    reads = [(read.name, read.action, read.person, read.purpose, read.rules) for read, _ in tell(day()).reads]
    used, checked = ("job-uses-what-its-decision-named",), ("custodian-verifies-what-is-staged",)
    assert reads == [
        ("", "open", "Person:operator", "import", ("a-rule",)),
        ("config/tiny", "verify", "Person:operator", "import", checked),
        ("corpus/words", "verify", "Person:operator", "import", checked),
        ("config/tiny", "use", "Person:operator", "train", used),
        ("corpus/words", "use", "Person:operator", "train", used),
        ("weights/tiny", "verify", "Person:operator", "train", checked),
        ("weights/tiny", "use", "Person:operator", "export", used),
    ]


def test_a_read_of_a_job_that_nobody_began_is_the_jobs_own():
    (read, _), *_ = tell([use("train-9", CONFIG, "config/tiny")]).reads
    assert read.person == "Job:train-9"


def test_the_same_read_is_one_row_that_counts():
    summary = tell([*day(), *[use("train-2", CONFIG, "config/tiny")] * 5])
    (span,) = [span for read, span in summary.reads if (read.name, read.purpose) == ("config/tiny", "train")][
        -1:
    ]
    assert (span.count, span.first, span.last) == (6, 15, 38)


def test_refusals_say_whom_what_and_why():
    refusals = [(what.principal, what.action, what.name, what.reasons) for what, _ in tell(day()).refusals]
    assert refusals == [
        ("Person:mallory", "read", "weights/tiny", ("no-rule",)),
        ("Person:operator", "export", "weights/tiny", ("forbidden-by:export-needs-two-officers",)),
    ]


def test_a_request_is_followed_from_asking_to_the_bundle():
    (asked,) = tell(day()).requests
    assert (asked.action, asked.requester, asked.object) == ("export", "Person:operator", "weights/tiny")
    assert asked.reason == "for carol"
    assert asked.approvals == [("Person:alice", 25), ("Person:bob", 27)]
    assert asked.decisions == [(False, 26), (True, 28)]
    assert (asked.bundle, asked.bytes, asked.exported) == ("b0" * 16, 541000, 30)
    assert asked.recipient.startswith("age1q")


def test_a_request_that_somebody_tries_for_ever_stays_small():
    many = [*[approved("alice")] * 30, *[export_decision("alice", allow=False)] * 30]
    (asked,) = tell(many).requests
    assert (len(asked.approvals), len(asked.decisions)) == (20, 20)
    assert asked.decisions[-1] == (False, 59)


def test_an_object_whose_name_nobody_told_is_shown_by_its_id():
    made = fact("request-made", "Person:o", "request", f"Object:{WEIGHTS}", request="1", action="export")
    odd = exported(request="1")
    odd.context["bytes"] = "many"
    (asked,) = tell([made, odd]).requests
    assert (asked.object, asked.bytes, asked.exported) == (f"Object:{WEIGHTS}", 0, 1)


def test_jobs_are_followed_from_decision_to_end():
    jobs = [
        (job.id, job.person, job.name, job.begun, job.reads, job.state, job.ended) for job in tell(day()).jobs
    ]
    assert jobs == [
        ("import-1", "Person:operator", "", 4, 3, "done", 12),
        ("train-2", "Person:operator", "config/tiny", 13, 3, "done", 21),
        ("export-3", "Person:operator", "weights/tiny", 28, 1, "done", 30),
    ]


def test_a_resumed_job_stays_one_job():
    again = decision("Person:operator", "train", f"Object:{CONFIG}", job="train-2")
    (job,) = [job for job in tell([*day(), again]).jobs if job.id == "train-2"]
    assert job.begun == 13


def test_a_start_without_a_job_is_no_job():
    assert list(tell([decision("Person:operator", "train", f"Object:{CONFIG}")]).jobs) == []


def test_custody_events_and_isolation_are_told_in_order():
    events = [(event.index, event.kind, event.text) for event in tell(day()).events]
    assert events == [
        (0, "genesis", "profile isolated; custody file:"),
        (1, "started", "profile isolated; keys lie in a file"),
        (2, "unseal-failed", "profile isolated; reason secret"),
        (3, "unsealed", "profile isolated; custody file:"),
        (4, "isolation", "isolated (first stated)"),
        (31, "sealed", "profile isolated; reason night"),
        (32, "started", "profile isolated"),
        (33, "ended", "profile isolated"),
    ]


def test_a_kind_that_nobody_knows_is_an_event():
    told = {"size": 5, "by": "x" * 100, "none": None, "list": [1]}
    (event,) = tell([fact("cosigned", "Person:w", "witness", APPLIANCE, **told)]).events
    assert (event.kind, event.principal) == ("cosigned", "Person:w")
    assert event.text == f"by {'x' * 80}; profile isolated; size 5"


def test_a_host_that_stops_being_isolated_is_an_event():
    records = [decision("Person:o", "status", APPLIANCE) for _ in range(3)]
    records[1].context["isolated"] = False
    records[2].context["isolated"] = records[2].context["sealed"] = "unknown"
    summary = tell(records)
    assert [event.text for event in summary.events] == [
        "isolated (first stated)",
        "not isolated (was isolated)",
    ]
    assert summary.state == State(ON, OPEN, NOT_ISOLATED)


def test_the_state_follows_start_unseal_seal_and_end():
    said = [
        started(),
        fact("unsealed", "Person:o", "unseal", APPLIANCE),
        decision("Person:o", "status", APPLIANCE),
        fact("sealed", "Person:o", "seal", APPLIANCE),
        started(2),
        decision("Person:o", "status", APPLIANCE, sealed=True),
        ended(),
    ]
    states = [tell(said[: count + 1]).state for count in range(len(said))]
    assert states == [
        State(ON, SEALED),
        State(ON, OPEN),
        State(ON, OPEN, ISOLATED),
        State(ON, SEALED, ISOLATED),
        State(ON, SEALED),
        State(ON, SEALED, ISOLATED),
        State(OFF, SEALED),
    ]
    assert gaps(tell(said)) == []


def test_a_start_without_an_end_is_a_gap():
    summary = tell([started(), started(2), ended(), started(3)])
    assert gaps(summary) == [(1, "cut off")]
    assert "a crash, a kill or a power cut after 2025-06-15T15:06:40" in next(iter(summary.gaps)).text


def test_a_clock_that_goes_back_is_a_gap_and_so_is_a_time_that_never_was():
    times = ["2026-01-02T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z", "2026-02-31T00:00:00.000000Z"]
    summary = tell([started(), ended(), started()], times)
    assert gaps(summary) == [(1, "clock"), (2, "clock")]
    assert [gap.text for gap in summary.gaps] == [
        "the clock went back from 2026-01-02T00:00:00.000000Z: times from here on overlap",
        "2026-02-31T00:00:00.000000Z is no time",
    ]
    assert sum(bucket.entries for bucket in summary.timeline.buckets) == 3


def test_a_full_log_a_weak_jail_and_an_identity_given_out_are_gaps():
    full = fact("log.full", "Custodian:custodian", "log", APPLIANCE)
    jail = fact("jail", "Custodian:custodian", "train", "JobRecord:t", job="t", missing=["system-calls"])
    given = decision("Person:o", "configure", APPLIANCE, setting="recover-identity")
    other = decision("Person:o", "configure", APPLIANCE, setting="officers")
    summary = tell([full, jail, given, other])
    assert gaps(summary) == [(0, "log full"), (1, "jail"), (2, "identity")]
    assert [gap.text for gap in summary.gaps][1] == "t ran without system-calls"


def test_a_log_of_any_length_leaves_tables_of_bounded_length(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 5)
    many = []
    for number in range(12):
        job, what = f"train-{number}", f"{number:064x}"
        many += [
            decision("Person:o", "train", f"Object:{CONFIG}", job=job),
            created(job, what, "weights", job),
            use(job, what, f"weights/{number}"),
            decision("Person:o", "read", f"Object:{what}", allow=False),
            fact("sealed", "Person:o", "seal", APPLIANCE),
            approved("alice", f"{number}"),
            fact("log.full", "Custodian:custodian", "log", APPLIANCE),
        ]
    summary = tell(many)
    for table in (
        summary.reads,
        summary.refusals,
        summary.requests,
        summary.events,
        summary.gaps,
        summary.jobs,
    ):
        assert len(table.rows) == 5
        assert table.left_out >= 7
    assert (summary.refused, summary.reads.left_out) == (12, 7)


@pytest.mark.parametrize("kind", ["unseal-failed", "sealed"])
def test_an_event_is_told_once(kind):
    assert len(tell([fact(kind, "Person:o", "seal", APPLIANCE)]).events.rows) == 1
