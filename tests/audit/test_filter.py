from __future__ import annotations

import pytest

from audit.entry import Decision, Entry
from audit.errors import Malformed
from audit.filter import Filter, parse_moment, text_of, texts_of
from tests.audit.story import CONFIG, CORPUS, WEIGHTS, day, entries


def found(**wanted):
    return [entry.seq for entry in entries(day()) if Filter(**wanted).matches(entry)]


def test_nothing_asked_for_shows_everything():
    assert found() == list(range(len(day())))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"principal": "mallory"}, [22]),
        ({"principal": "Person:mallory"}, [22]),
        ({"principal": "Person"}, []),
        ({"action": "unseal"}, [2, 3]),
        ({"kind": "approved"}, [25, 27]),
        ({"allowed": False}, [22, 26]),
        ({"allowed": True, "action": "export"}, [28]),
        ({"object": CORPUS}, [9, 10, 11, 12, 16, 17, 20]),
        ({"object": CORPUS[:8]}, [9, 10, 11, 12, 16, 17, 20]),
        ({"object": CORPUS[:7]}, []),
        ({"object": f"Object:{CORPUS}", "kind": "decision"}, [10, 17]),
        ({"object": "corpus/words"}, [9, 10, 11, 17]),
        ({"object": CONFIG, "kind": "object-named"}, [16]),
        ({"object": WEIGHTS, "allowed": False}, [22, 26]),
        ({"since": "2025-06-15T15:39"}, [33]),
        ({"until": "2025-06-15T15:07"}, [0, 1]),
        ({"since": "2025-06-15", "until": "2025-06-15T15:06:40"}, [0]),
        ({"since": "2025-06-16"}, []),
        ({"until": "2025-06-14"}, []),
    ],
)
def test_an_entry_is_shown_for_what_was_asked_and_for_nothing_else(wanted, expected):
    assert found(**wanted) == expected


@pytest.mark.parametrize(
    "text",
    ["2026-01-02", "2026-01-02T03", "2026-01-02T03:04", "2026-01-02T03:04:05", "2026-01-02T03:04:05.6"],
)
def test_a_time_may_stop_at_any_precision(text):
    assert parse_moment(text) == text
    assert parse_moment(f"{text}Z") == text


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-1-2", "2026-01-02 03:04", "yesterday", "2026-01-02T03:04+01:00"]
)
def test_another_time_is_refused_with_an_example(text):
    with pytest.raises(Malformed, match="expected a UTC time such as 2026-01-02"):
        parse_moment(text)


def test_what_was_too_long_for_an_entry_is_no_text():
    hashed = {"sha256": "0" * 64, "size": 70000}
    context = {"named": hashed, "object": hashed, "parents": ["a", 1]}
    entry = Entry(0, "", "k", "p", "a", "r", context, Decision(allow=True))
    assert text_of(context, "object") == ""
    assert texts_of(context, "named") == ()
    assert texts_of(context, "parents") == ("a",)
    assert not Filter(object=WEIGHTS).matches(entry)
