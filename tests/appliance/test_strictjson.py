"""JSON from a neighbour that is not trusted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ProtocolError
from appliance.strictjson import MAX_DEPTH, MAX_INT, MIN_INT, check_json, encode_json, parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_what_is_read(value):
    assert parse_json(encode_json(value), limit=1 << 20) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_protocol_error(data):
    try:
        value = parse_json(data, limit=100)
    except ProtocolError:
        return
    assert len(data) <= 100
    assert parse_json(encode_json(value), limit=1 << 20) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "expected one strict JSON value"),
        ("{} {}", "Extra data"),
        ('{"a":1,"a":1}', "a name stands twice"),
        ('{"x":{"a":1,"a":2}}', "a name stands twice"),
        ("NaN", "NaN is not a JSON number"),
        ("-Infinity", "is not a JSON number"),
        ("1e999", "a finite number, found inf"),
        (str(MAX_INT + 1), "an integer of 64 bits, found one of 64"),
        (str(MIN_INT - 1), "an integer of 64 bits"),
        ("1" * 5000, "expected one strict JSON value"),
        ('"\\ud800"', "found a lone surrogate"),
        ('{"\\udfff":1}', "found a lone surrogate"),
        ("[" * 17 + "]" * 17, f"at most {MAX_DEPTH} levels"),
        ("[" * 100_000, "expected one strict JSON value"),
        ("[" * 100_000 + "]" * 100_000, "expected"),
        ("{'a':1}", "expected one strict JSON value"),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(text, found):
    with pytest.raises(ProtocolError, match=found):
        parse_json(text.encode(), limit=1 << 20)


def test_bytes_that_are_no_utf8_are_refused():
    with pytest.raises(ProtocolError, match="expected one strict JSON value"):
        parse_json(b'"\xff"', limit=10)
    with pytest.raises(ProtocolError, match="expected one strict JSON value"):
        parse_json(json.dumps("ab").encode("utf-16"), limit=100)


def test_the_size_is_bounded_before_anything_is_parsed():
    assert parse_json(b'"12345678"', limit=10) == "12345678"
    with pytest.raises(ProtocolError, match="at most 10 bytes of JSON, found 11"):
        parse_json(b'"123456789"', limit=10)


def test_the_deepest_value_allowed_is_allowed():
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert encode_json(parse_json(text.encode(), limit=100)).decode() == text


@pytest.mark.parametrize("value", [b"x", {1: 2}, {"a": {1}}, object(), float("nan")])
def test_values_that_json_cannot_carry_are_not_written(value):
    with pytest.raises(ProtocolError, match="expected"):
        encode_json(value)


def test_a_value_that_holds_itself_is_refused_not_followed():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ProtocolError, match="levels of nesting"):
        check_json(loop)
