from __future__ import annotations

import json

import pytest

from audit import account
from audit.account import Account
from audit.entry import Record
from audit.errors import CouldNotCheck
from audit.listing import parse_listing
from tests.audit.story import (
    CONFIG,
    CORPUS,
    WEIGHTS,
    created,
    day,
    decision,
    entries,
    export_decision,
    exported,
    listing,
    opened,
    use,
    verified,
)


def settle(records, rows=None):
    found = entries(records)
    listed = parse_listing(json.dumps(listing(found) if rows is None else rows).encode())
    result = Account(listed)
    for entry in found:
        result.observe(entry)
    result.finish()
    return result


def codes(result):
    return [difference.code for difference in result.named]


def only(result):
    assert result.differences == len(result.named) == 1
    return result.named[0]


def test_a_day_of_an_intact_appliance_is_accounted_for():
    result = settle(day())
    assert result.named == []
    assert result.told() == ("objects created 3, keys released 7, exports 1, objects listed 3; differences 0")
    assert (result.recovered, result.unfinished) == (0, 0)
    assert result.owner_of("train-2") == "Person:operator"
    assert result.owner_of("train-9") == ""


def test_without_a_list_the_log_is_held_against_itself():
    result = Account()
    for entry in entries(day()):
        result.observe(entry)
    result.finish()
    assert result.told() == "objects created 3, keys released 7, exports 1, no list given; differences 0"


def test_an_object_planted_in_the_vault_is_named():
    rows = listing(entries(day()))
    planted = {**rows[0], "id": "ff" * 32, "name": "planted"}
    found = only(settle(day(), [*rows, planted]))
    assert (found.code, found.index) == ("not-in-log", None)
    assert (
        found.text == f"config planted ({'ff' * 32}) is in the vault's list; no entry of the log created it"
    )


def test_an_object_that_is_gone_from_the_vault_is_named():
    found = only(settle(day(), listing(entries(day()))[1:]))
    assert (found.code, found.index) == ("not-in-list", 8)
    assert f"config tiny ({CONFIG}), created by entry 8 at 2025-06-15T15:14:40.000000Z, is not" in found.text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"kind": "report"}, "kind: the list has report, the log config"),
        ({"name": "other"}, "name: the list has other, the log tiny"),
        ({"version": 2}, "version: the list has 2, the log 1"),
        ({"size_bytes": 1}, "size_bytes: the list has 1, the log 100"),
        ({"sha256": "00"}, "sha256: the list has 00, the log 0c0c"),
        ({"parents": [CORPUS]}, "parents: the list has"),
        ({"compartments": ["a"]}, "compartments: the list has ['a'], the log []"),
        ({"job": "train-9"}, "job: the list has train-9, the log import-1"),
        ({"log_index": 9}, "log_index: the list has 9, the log 8"),
        ({"created": "2020"}, "created: the list has 2020, the log 2025-06-15"),
    ],
)
def test_each_fact_that_differs_is_named(changed, said):
    rows = listing(entries(day()))
    found = only(settle(day(), [{**rows[0], **changed}, *rows[1:]]))
    assert (found.code, found.index) == ("differs", 8)
    assert said in found.text


def ended(kind, **context):
    return Record(kind, "Person:operator", "shred", "Object:x", context)


@pytest.mark.parametrize(
    ("record", "state"),
    [
        (ended("object-shredded", object=CORPUS), "shredded"),
        (ended("object-retired", objects=[CORPUS, "ff" * 32]), "retired"),
    ],
)
def test_an_end_that_only_the_list_or_only_the_log_knows_is_named(record, state):
    rows = listing(entries(day()))
    gone = [{**row, "state": state if row["id"] == CORPUS else "ready"} for row in rows]
    assert settle([*day(), record], gone).named == []
    assert f"is ready in the vault's list, in the log {state}" in only(settle([*day(), record], rows)).text
    assert f"is {state} in the vault's list, in the log ready" in only(settle(day(), gone)).text


def test_a_read_of_what_was_shredded_before_is_named():
    start = decision("Person:operator", "train", f"Object:{CONFIG}", job="train-2")
    read = use("train-2", CORPUS, "corpus/words")
    rows = [
        {**row, "state": "shredded" if row["id"] == CORPUS else "ready"} for row in listing(entries(day()))
    ]
    result = settle([*day(), ended("object-shredded", object=CORPUS), start, read], rows)
    assert codes(result) == ["read-after-end"]
    assert f"used {CORPUS}, which was shredded before" in result.named[0].text


def test_a_fact_that_was_too_long_for_the_entry_is_not_held_against_it():
    parents = {"sha256": "0" * 64, "size": 70000}
    records = [opened("a-1", WEIGHTS, "weights", "w"), created("a-1", WEIGHTS, "weights", "w", size=1)]
    records[1].context["parents"] = parents
    rows = [{**listing(entries(records))[0], "parents": [CONFIG]}]
    assert settle(records, rows).named == []


def test_reads_of_what_no_entry_made_are_named():
    start = decision("Person:operator", "train", f"Object:{CONFIG}", job="train-2")
    result = settle(
        [start, use("train-2", WEIGHTS, "weights/tiny"), verified("train-2", CORPUS, "corpus/words")]
    )
    assert codes(result) == ["read-of-unknown", "read-of-unknown"]
    assert result.named[0].text == f"entry 1 used {WEIGHTS}, which no entry had created"
    assert result.named[1].text == f"entry 2 verified {CORPUS}, which no entry had opened"


def test_a_read_before_the_creation_does_not_count():
    records = day()
    records.insert(0, use("train-2", WEIGHTS, "weights/tiny"))
    assert codes(settle(records)) == ["read-of-unknown", "read-without-start"]


def test_a_job_that_nobody_asked_for_is_named():
    records = [record for record in day() if record.action != "train" or record.decision is None]
    result = settle(records)
    assert codes(result) == ["read-without-start"] * 3
    assert "to job train-2, which no decision began" in result.named[0].text


def test_a_job_whose_decision_was_a_refusal_was_not_begun():
    records = [
        decision("Person:operator", "train", f"Object:{CONFIG}", allow=False, job="train-2")
        if record.action == "train" and record.decision
        else record
        for record in day()
    ]
    assert codes(settle(records)) == ["read-without-start"] * 3


def test_a_key_released_to_no_job_is_named():
    records = [*day(), decision("Job:x", "open", "Bundle:b")]
    assert "released Bundle b to job (none)" in only(settle(records)).text


def test_creations_without_a_key_or_twice_are_named():
    again = created("train-2", WEIGHTS, "weights", "tiny", parents=[CONFIG, CORPUS])
    result = settle([*day(), again], listing(entries(day())))
    assert codes(result) == ["created-twice", "created-without-key", "differs"]


def test_an_export_without_its_decision_is_named():
    records = [
        record
        for record in day()
        if record.action != "export" or not (record.decision and record.decision.allow)
    ]
    result = settle(records)
    assert codes(result) == ["read-without-start", "export-without-decision"]


@pytest.mark.parametrize("other", [{"what": CONFIG}, {"request": "88" * 32}, {"job": "export-9"}])
def test_an_export_of_something_else_than_was_decided_is_named(other):
    records = [exported(**other) if record.kind == "bundle-exported" else record for record in day()]
    assert only(settle(records)).code == "export-without-decision"


@pytest.mark.parametrize(
    ("approvers", "said"),
    [
        (("alice", "carol"), "allowed an export on 2 approvals; the log has 2, none by carol"),
        (("alice", "bob", "carol"), "on 3 approvals; the log has 2, none by carol"),
        (("operator", "alice", "bob"), "on 3 approvals; the log has 2, none by operator"),
    ],
)
def test_approvals_that_are_not_in_the_log_are_named(approvers, said):
    records = [
        export_decision(*approvers)
        if record.action == "export" and record.decision and record.decision.allow
        else record
        for record in day()
    ]
    found = only(settle(records))
    assert found.code == "export-without-approval"
    assert said in found.text


def test_an_export_that_counted_nothing_is_held_to_nothing():
    records = [record for record in day() if record.kind != "approved"]
    allowed = export_decision()
    allowed.context["approvals"] = "many"
    records = [
        allowed if record.action == "export" and record.decision and record.decision.allow else record
        for record in records
    ]
    assert settle(records).named == []


def test_an_identity_given_out_and_an_output_never_created_are_counted():
    recovered = decision("Person:operator", "configure", "Appliance:a", setting="recover-identity")
    other = decision("Person:operator", "configure", "Appliance:a", setting="officers")
    result = settle([*day(), recovered, other, opened("train-2", "aa" * 32, "weights", "x")])
    assert (result.recovered, result.unfinished, result.differences) == (1, 1, 0)
    assert "exports 1, vault's identity given out 1, objects listed 3; differences 0" in result.told()


def test_differences_beyond_the_named_ones_are_counted(monkeypatch):
    monkeypatch.setattr(account, "MAX_NAMED", 3)
    result = settle([use("train-2", WEIGHTS, "weights/tiny")] * 4)
    assert (result.differences, len(result.named)) == (8, 3)


def test_a_log_with_more_things_than_can_be_followed_is_not_judged(monkeypatch):
    monkeypatch.setattr(account, "_MAX_FOLLOWED", 3)
    with pytest.raises(CouldNotCheck, match="expected at most 3 objects, jobs and requests"):
        settle(day())
