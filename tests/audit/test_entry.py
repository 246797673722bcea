from __future__ import annotations

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import (
    Decision,
    Record,
    commitment,
    encode_entry,
    entry_salt,
    format_time,
    parse_entry,
    with_commitments,
)
from audit.errors import Malformed

TIME = "2026-01-02T03:04:05.000000Z"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64) + 1, 2**64 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("ab\x00\u202e", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DECISIONS = st.builds(Decision, st.booleans(), st.tuples(TEXTS), TEXTS, st.tuples(TEXTS, TEXTS))


@given(
    TEXTS,
    TEXTS,
    TEXTS,
    st.dictionaries(TEXTS, VALUES, max_size=3),
    st.none() | DECISIONS,
    st.integers(0, 2**63 - 1),
)
def test_an_entry_and_its_record_are_inverses(principal, action, resource, context, decision, seq):
    record = Record("job.start", principal, action, resource, context, decision)
    data = encode_entry(record, seq, TIME)
    entry = parse_entry(data)
    assert data.isascii()
    assert (entry.seq, entry.time, entry.kind, entry.principal) == (seq, TIME, "job.start", principal)
    assert (entry.action, entry.resource, entry.context, entry.decision) == (
        action,
        resource,
        context,
        decision,
    )


def test_an_entry_is_written_as_the_format_says():
    decision = Decision(False, ("p1",), "aa", ("because",))
    record = Record(
        "decision", "person:ada", "read", "weights/1", MappingProxyType({"b": (1, 2), "a": "é"}), decision
    )
    assert encode_entry(record, 7, TIME) == (
        b'{"action":"read","context":{"a":"\\u00e9","b":[1,2]},"decision":{"allow":false,"policies":["p1"],'
        b'"policy_set":"aa","reasons":["because"]},"kind":"decision","principal":"person:ada",'
        b'"resource":"weights/1","seq":7,"time":"2026-01-02T03:04:05.000000Z","v":1}'
    )


def test_a_name_cannot_steer_a_terminal_that_shows_the_entry(record):
    data = encode_entry(record(principal="\x1b[2J\u202egnp.exe\x9b"), 0, TIME)
    assert b"\\u001b[2J\\u202egnp.exe\\u009b" in data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": {"loss": 0.5}}, "integers, booleans, lists or objects, found float"),
        ({"context": {"raw": b"x"}}, "found bytes"),
        ({"context": {1: "x"}}, "found dict"),
        ({"context": {"big": 2**64}}, "64-bit integers"),
        ({"context": {"lone": "\ud800"}}, "UTF-8 can carry"),
        ({"principal": "\udfff"}, "UTF-8 can carry"),
        ({"context": {"deep": [[[[[[[[["x"]]]]]]]]]}}, "nested at most 8"),
        ({"kind": "Bad Kind"}, "expected a kind"),
        ({"kind": "x" * 65}, "expected a kind"),
        ({"secret": {"name": 1}}, "must become commitments"),
    ],
)
def test_what_may_not_be_logged_is_refused_with_the_reason(record, changes, message):
    with pytest.raises(Malformed, match=message):
        encode_entry(record(**changes), 0, TIME)


@pytest.mark.parametrize(
    ("seq", "time"), [(-1, TIME), (True, TIME), (2**63, TIME), (0, "today"), (0, TIME + "\n")]
)
def test_a_wrong_sequence_number_or_time_is_refused(record, seq, time):
    with pytest.raises(Malformed, match="entry"):
        encode_entry(record(), seq, time)


def test_time_is_written_in_utc_with_microseconds():
    assert format_time(0.5) == "1970-01-01T00:00:00.500000Z"


def tampered(**changes):
    fields = json.loads(encode_entry(Record("k", "p", "a", "r", {}, Decision(True)), 0, TIME))
    return json.dumps({**fields, **changes}, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 65536, "at most 65535 bytes"),
        (b"", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 60_000, "expected JSON"),
        (b'{"v":' + b"9" * 5000 + b"}", "expected JSON"),
        (b'{"v":1.0}', "expected JSON"),
        (b'{"v":NaN}', "expected JSON"),
        (b"[]", "exactly the fields"),
        (b"{}", "exactly the fields"),
        (tampered(extra=1), "exactly the fields"),
        (tampered() + b" ", "exactly the fields"),
        (tampered().replace(b'"v":1', b'"v":1,"v":1'), "exactly the fields"),
        (tampered().replace(b'"kind":"k"', b'"kind":"\\u006b"'), "exactly the fields"),
        (tampered(v=2), "expected version 1"),
        (tampered(v=True), "expected version 1"),
        (tampered(principal=3), "expected version 1 and texts"),
        (tampered(seq="0"), "sequence number"),
        (tampered(kind="K"), "expected a kind"),
        (tampered(time="now"), "UTC time"),
        (tampered(context=[]), "an object as its context"),
        (tampered(context={"lone": "\ud800"}), "UTF-8 can carry"),
        (tampered(decision=[]), "expected a decision"),
        (tampered(decision={"allow": True}), "expected a decision"),
        (
            tampered(decision={"allow": 1, "policies": [], "policy_set": "", "reasons": []}),
            "expected a decision",
        ),
        (tampered(decision={"allow": True, "policies": [1], "policy_set": "", "reasons": []}), "a decision"),
        (tampered(decision={"allow": True, "policies": [], "policy_set": None, "reasons": []}), "a decision"),
        (tampered(decision={"allow": True, "policies": [], "policy_set": "", "reasons": "x"}), "a decision"),
    ],
)
def test_a_malformed_entry_is_refused_with_the_reason(data, message):
    with pytest.raises(Malformed, match=message):
        parse_entry(data)


@pytest.mark.parametrize("place", ["principal", "action", "resource", "policy_set", "policies", "reasons"])
@pytest.mark.parametrize(("name", "message"), [("x" * 1025, "at most 1024"), ("\ud800", "UTF-8 can carry")])
def test_an_entry_with_a_name_that_no_log_writes_is_refused(record, place, name, message):
    fields = json.loads(encode_entry(record(1), 0, "2026-01-02T03:04:05.000000Z"))
    if place in fields:
        fields[place] = name
    else:
        fields["decision"][place] = name if place == "policy_set" else [name]
    data = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(Malformed, match=message):
        parse_entry(data)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_otherwise(data):
    with pytest.raises(Malformed):
        parse_entry(data)


def test_a_value_too_large_enters_as_its_hash_and_the_rest_stays(record):
    context = {"note": "short", "huge": "x" * 70_000, "large": "y" * 50_000}
    entry = parse_entry(encode_entry(record(context=context), 0, TIME))
    assert entry.context["note"] == "short"
    assert entry.context["large"] == "y" * 50_000
    assert entry.context["huge"]["size"] == 70_002
    assert len(entry.context["huge"]["sha256"]) == 64


def test_no_record_is_too_large_to_be_logged(record):
    many = {f"{i:06d}": "v" for i in range(20_000)}
    reasons = Decision(False, ("p" * 900,) * 100, "s", ("r" * 9000,) * 2000)
    absurd = "\U0001f600" * 5000
    entry = parse_entry(encode_entry(record(context=many, decision=reasons, principal=absurd), 0, TIME))
    assert entry.principal.startswith("sha256:")
    assert set(entry.context) == {"sha256", "size"}
    assert all(text.startswith("sha256:") for text in (*entry.decision.reasons, *entry.decision.policies))
    kept = parse_entry(encode_entry(record(context=many, decision=None), 0, TIME))
    assert set(kept.context) == {"sha256", "size"}


def test_secret_values_enter_as_commitments_and_never_in_clear(record):
    secret = b"k" * 32
    with_secret = record(secret={"prompt": "attack at dawn", "layers": 4})
    committed = with_commitments(with_secret, 5, secret)
    data = encode_entry(committed, 5, TIME)
    assert b"attack" not in data
    assert parse_entry(data).context["prompt"] == {
        "commitment": commitment(secret, 5, "prompt", "attack at dawn")
    }
    assert "attack" not in repr(with_secret)
    assert with_commitments(record(), 5, None) == record()


def test_commitments_differ_by_entry_name_value_type_and_secret():
    secret = b"k" * 32
    values = [1, "1", True, None, [1], {"1": 1}, 0, False, ""]
    made = {commitment(secret, 5, "n", value) for value in values}
    made |= {
        commitment(secret, 6, "n", 1),
        commitment(secret, 5, "m", 1),
        commitment(bytearray(32), 5, "n", 1),
    }
    assert len(made) == len(values) + 3
    assert commitment(secret, 5, "n", (1,)) == commitment(secret, 5, "n", [1])


def test_a_salt_is_hkdf_of_the_logs_secret_and_the_entrys_number():
    hkdf = pytest.importorskip("cryptography.hazmat.primitives.kdf.hkdf")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    info = b"appliance audit entry" + (5).to_bytes(8, "big")
    other = hkdf.HKDF(hashes.SHA256(), 32, None, info).derive(b"k" * 32)
    assert entry_salt(b"k" * 32, 5) == other


def test_secrets_without_a_commitment_secret_or_beside_a_clear_value_are_refused(record):
    with pytest.raises(Malformed, match="no commitment secret: unseal"):
        with_commitments(record(secret={"a": 1}), 0, None)
    with pytest.raises(Malformed, match="'number' stands in both"):
        with_commitments(record(secret={"number": 1}), 0, b"k")
