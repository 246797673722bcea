"""Entries as people read them: each in one table, and counted."""

from __future__ import annotations

from appliance.report import story
from appliance.report.story import acts_of, kinds_of, releases_of
from tests.appliance.report.telling import entries, entry, objects


def test_decisions_say_who_on_what_and_by_which_rule():
    acts, left_out = acts_of(entries(), objects())
    assert left_out == 0
    assert [(act.index, act.what, act.who, act.on, act.verdict) for act in acts] == [
        (10, "train", "operator", "config first, version 1", "allowed"),
        (19, "job-ended", "custodian", "job train-0a1b2c3d4e5f", ""),
        (20, "request-made", "operator", "weights first, version 2", ""),
        (21, "export", "operator", "weights first, version 2", "refused"),
        (25, "bundle-exported", "operator", "weights first, version 2", ""),
    ]
    assert acts[3].detail == "export-needs-two-officers"
    assert acts[1].detail == "reason first; state done"


def test_released_keys_are_counted_by_object():
    (release,) = releases_of(entries(), objects())
    assert (release.on, release.action, release.times) == ("corpus first, version 1", "use", 2)
    assert (release.first, release.last) == (11, 12)


def test_a_refused_key_is_an_act_and_no_release():
    refused = [
        entry(5, "decision", "Job:j", "use", "Object:x", False, ["a-forbid"], object_name="corpus/secret")
    ]
    assert releases_of(refused, {}) == []
    (act,) = acts_of(refused, {})[0]
    assert (act.on, act.verdict, act.who) == ("corpus/secret", "refused", "Job:j")


def test_every_entry_is_counted_once():
    assert sum(count for _, count in kinds_of(entries())) == len(entries())


def test_what_does_not_fit_is_counted(monkeypatch):
    monkeypatch.setattr(story, "MAX_ROWS", 2)
    acts, left_out = acts_of(entries(), objects())
    assert (len(acts), left_out) == (2, 3)
