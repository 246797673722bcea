from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import Record, encode_entry, entry_salt, format_time, parse_entry, with_commitments
from audit.errors import Invalid, Malformed
from audit.opening import commitments, verify_claims
from tests.audit.story import SECRET


def entry_of(secret, seq=7):
    record = Record(
        "object-created", "Job:a", "create", "Object:b", {"size": 1, "map": {"a": 1}}, None, secret
    )
    return parse_entry(encode_entry(with_commitments(record, seq, SECRET), seq, format_time(0)))


def test_the_salt_of_an_entry_opens_each_of_its_secrets():
    entry = entry_of({"name": "plan b", "flops": 10**15, "fast": True, "shape": [1, 2], "none": None})
    assert sorted(commitments(entry)) == ["fast", "flops", "name", "none", "shape"]
    claims = {"name": "plan b", "flops": f"{10**15}", "fast": "true", "shape": "[1, 2]", "none": "null"}
    opened = {"name": "plan b", "flops": 10**15, "fast": True, "shape": [1, 2], "none": None}
    assert verify_claims(entry, entry_salt(SECRET, 7), claims) == opened


def test_text_and_number_are_told_apart_by_what_was_committed():
    for value in ("1", 1):
        opened = verify_claims(entry_of({"seed": value}), entry_salt(SECRET, 7), {"seed": "1"})
        assert type(opened["seed"]) is type(value)


@pytest.mark.parametrize("claim", ["plan c", "1", "", "1.5", "NaN", "[" * 100_000, "plan b "])
def test_another_value_is_refused(claim):
    with pytest.raises(Invalid, match="entry 7, name: another value was committed to"):
        verify_claims(entry_of({"name": "plan b"}), entry_salt(SECRET, 7), {"name": claim})


def test_the_salt_of_another_entry_opens_nothing():
    with pytest.raises(Invalid, match="or the salt is another entry's"):
        verify_claims(entry_of({"name": "plan b"}), entry_salt(SECRET, 8), {"name": "plan b"})


def test_a_name_that_is_no_secret_is_said_with_those_that_are():
    with pytest.raises(Malformed, match=r"expected a secret's name, one of \['name'\], found 'size'"):
        verify_claims(entry_of({"name": "plan b"}), entry_salt(SECRET, 7), {"size": "1"})


@given(value=st.text(st.characters(exclude_categories=["Cs"]), max_size=20), other=st.text(max_size=20))
def test_only_the_committed_text_opens(value, other):
    entry, salt = entry_of({"name": value}), entry_salt(SECRET, 7)
    assert verify_claims(entry, salt, {"name": value}) == {"name": value}
    if other != value:
        with pytest.raises(Invalid):
            verify_claims(entry, salt, {"name": other})
