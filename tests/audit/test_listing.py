from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import listing
from audit.errors import Malformed
from audit.listing import parse_listing
from tests.audit.story import CONFIG, day, entries
from tests.audit.story import listing as made


def rows(**changes):
    return json.dumps([{**made(entries(day()))[0], **changes}]).encode()


def test_a_list_is_read_as_the_appliance_prints_it():
    found = parse_listing(json.dumps(made(entries(day())), indent=2).encode())
    assert len(found) == 3
    assert (found[CONFIG].kind, found[CONFIG].log_index, found[CONFIG].parents) == ("config", 8, ())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected JSON, found b''"),
        (b"\xff", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"{}", "expected an array, as `appliance objects list --json` prints it"),
        (b"[1]", "expected the fields .*, found '1'"),
        (b"[{}]", "expected the fields"),
        (rows(extra=1), "expected the fields"),
        (rows(kind=1), "expected texts, numbers and an id"),
        (rows(version="1"), "expected texts, numbers and an id"),
        (rows(version=True), "expected texts, numbers and an id"),
        (rows(size_bytes=-1), "expected texts, numbers and an id"),
        (rows(parents="abc"), "expected texts, numbers and an id"),
        (rows(parents=[1]), "expected texts, numbers and an id"),
        (rows(compartments=[1]), "expected texts, numbers and an id"),
        (rows(compartments={}), "expected texts, numbers and an id"),
        (rows(state=None), "expected texts, numbers and an id"),
        (rows(id="../../etc"), "expected texts, numbers and an id"),
    ],
)
def test_another_list_is_refused(data, said):
    with pytest.raises(Malformed, match=said):
        parse_listing(data)


def test_an_object_that_stands_in_it_twice_is_refused():
    twice = made(entries(day()))[:1] * 2
    with pytest.raises(Malformed, match="stands in it twice"):
        parse_listing(json.dumps(twice).encode())


def test_a_list_that_is_too_long_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(listing, "MAX_LISTING_BYTES", 10)
    with pytest.raises(Malformed, match="expected at most 10 bytes, found 11"):
        parse_listing(b"x" * 11)


@given(
    st.binary(max_size=200)
    | st.builds(lambda value: json.dumps(value).encode(), st.lists(st.dictionaries(st.text(), st.integers())))
)
def test_whatever_is_given_is_read_or_refused(data):
    with contextlib.suppress(Malformed):
        assert isinstance(parse_listing(data), dict)
