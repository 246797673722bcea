"""Canonical JSON has one spelling per value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import canonical
from appliance.errors import ContentRefused

LEAVES = st.booleans() | st.integers(-canonical.MAX_INT, canonical.MAX_INT) | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(VALUES.filter(lambda value: not _has_surrogate(value)))
def test_what_is_encoded_is_parsed_back(value):
    assert canonical.parse(canonical.encode(value), "value") == value


@given(st.binary(max_size=64))
def test_any_other_bytes_are_refused_or_encode_to_themselves(data):
    try:
        value = canonical.parse(data, "value")
    except ContentRefused:
        return
    assert canonical.encode(value) == data


@pytest.mark.parametrize(
    "spelling",
    [
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":null}',
        b'{"a":NaN}',
        b'{"a":"\\u0041"}',
        b'{"a":"\xc3\xa9"}',
        b'{"a":"\\ud800"}',
        b'{"a":9007199254740992}',
        b'{"a":-0}',
        b'{"a":01}',
        b"",
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_second_spelling_of_a_value_is_refused(spelling):
    with pytest.raises(ContentRefused, match=r"canonical JSON|whole number|surrogate"):
        canonical.parse(spelling, "value")


def test_size_is_bounded_before_parsing():
    with pytest.raises(ContentRefused, match="manifest: expected at most 4 bytes, found 5"):
        canonical.parse(b"[1,2]", "manifest", max_bytes=4)


def test_depth_is_bounded():
    value: object = 1
    for _ in range(canonical.MAX_DEPTH):
        value = [value]
    with pytest.raises(ContentRefused, match="levels deep"):
        canonical.encode(value)


def test_values_that_json_cannot_hold_are_refused():
    with pytest.raises(ContentRefused, match="found bytes"):
        canonical.encode({"a": b"x"})
    with pytest.raises(ContentRefused, match="JSON key, found int"):
        canonical.encode({1: "x"})


FIELDS = {"text": "abc", "number": 5, "array": ["a", 1], "flag": True}


def take_all_but(*left: str) -> canonical.Fields:
    fields = canonical.Fields(FIELDS, "thing")
    for name in FIELDS.keys() - set(left):
        fields.take(name)
    return fields


def test_field_that_nobody_asked_for_is_refused():
    with pytest.raises(ContentRefused, match="thing: expected no other fields, found flag, text"):
        take_all_but("text", "flag").done()


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (lambda fields: fields.take("none"), "expected the field none, found none"),
        (lambda fields: fields.text("number"), "expected number as text"),
        (lambda fields: fields.text("text", max_chars=2), "at most 2 characters"),
        (lambda fields: fields.choice("text", ("x", "y")), "one of x, y, found 'abc'"),
        (lambda fields: fields.number("flag"), "whole number from 0 to"),
        (lambda fields: fields.number("number", most=4), "from 0 to 4, found 5"),
        (lambda fields: fields.constant("flag", 1), "expected flag to be 1, found True"),
        (lambda fields: fields.array("array", 1), "array of at most 1 items"),
        (lambda fields: fields.texts("array", 4), "expected array to hold text only"),
        (lambda _: canonical.Fields([1], "thing"), "expected an object, found list"),
    ],
)
def test_field_of_another_type_or_range_is_refused(take, message):
    with pytest.raises(ContentRefused, match=message):
        take(canonical.Fields(FIELDS, "thing"))


def _has_surrogate(value):
    return any("\ud800" <= char <= "\udfff" for char in str(value))
