"""A manifest that parses is complete, consistent and of one spelling."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle import canonical
from appliance.bundle.groups import parity_name, parity_sizes
from appliance.bundle.manifest import (
    KINDS,
    Label,
    PartFile,
    check_label,
    complete,
    encode_manifest,
    format_time,
    later,
    parse_manifest,
    part_name,
    target_of,
)
from appliance.errors import ContentRefused

SHA = "ab" * 32
LABEL = Label(
    bundle_id="01" * 16,
    kind="corpus",
    direction="in",
    channel="default",
    seq=3,
    prev="",
    target="sha256:" + SHA,
    issued_at="2026-01-01T00:00:00Z",
    expires="2026-02-01T00:00:00Z",
    recipients=("X25519",),
    signers=("alice+01234567",),
    quorum=1,
    tree_head="log.example/demo\n1\nAAAA\n\n\u2014 log.example/demo AAAA\n",
    policy_decision="17",
)
PARTS = (PartFile("p0000.age", 400, SHA), PartFile("p0001.age", 5, SHA))
PARITY = (PartFile("x0000.xor", 400, SHA),)
MANIFEST = complete(LABEL, PARTS, b"read me", PARITY)


def changed(path: str, value: object) -> bytes:
    document = json.loads(encode_manifest(MANIFEST))
    *parents, last = path.split("/")
    at = document
    for step in parents:
        at = at[int(step) if isinstance(at, list) else step]
    last = int(last) if isinstance(at, list) else last
    at[last] = value
    return canonical.encode(document)


@given(
    st.sampled_from(KINDS), st.integers(1, 1 << 40), st.lists(st.integers(1, 1 << 32), min_size=1, max_size=5)
)
def test_manifest_is_read_back(kind, seq, sizes):
    parts = tuple(PartFile(part_name(index), size, SHA) for index, size in enumerate(sizes))
    manifest = complete(replace(LABEL, kind=kind, seq=seq), parts, b"x")
    assert parse_manifest(encode_manifest(manifest)) == manifest
    shared = zip(parity_sizes(sizes), range(len(sizes)), strict=False)
    parity = tuple(PartFile(parity_name(group), size, SHA) for size, group in shared)
    manifest = replace(manifest, parity=parity)
    assert parse_manifest(encode_manifest(manifest)) == manifest
    assert manifest.total_bytes == sum(sizes)


def test_folder_name_is_safe_on_fat():
    assert MANIFEST.folder_name == "01010101.bundle"


def test_target_tells_whose_it_is_only_to_who_knows_the_key():
    assert target_of("age1abc") == target_of("age1abc") != target_of("age1abd")
    assert "age1abc" not in target_of("age1abc")


def test_times_are_written_in_utc():
    moment = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(moment) == "2025-12-31T23:30:00Z"
    assert later(datetime(2026, 1, 31, tzinfo=UTC), 1) == "2026-02-01T00:00:00Z"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("extra", 1),
        ("predicate/extra", 1),
        ("subject", []),
        ("subject/0/name", "p0001.age"),
        ("subject/0/name", "../p0000.age"),
        ("subject/2/name", "p0002.age"),
        ("subject/0/digest/sha256", "AB" * 32),
        ("subject/0/digest/md5", "x"),
        ("predicate/format", 2),
        ("predicate/bundle_id", "01" * 15),
        ("predicate/kind", "pickle"),
        ("predicate/direction", "up"),
        ("predicate/channel", "../x"),
        ("predicate/seq", 0),
        ("predicate/seq", -1),
        ("predicate/seq", True),
        ("predicate/prev", "ab"),
        ("predicate/target", "a b"),
        ("predicate/issued_at", "2026-01-01"),
        ("predicate/issued_at", "2026-13-01T00:00:00Z"),
        ("predicate/expires", "2026-01-01T00:00:00Z"),
        ("predicate/recipients", []),
        ("predicate/recipients", ["scrypt"]),
        ("predicate/signers", []),
        ("predicate/signers", ["alice+01234567", "alice+01234567"]),
        ("predicate/signers", ["alice"]),
        ("predicate/quorum", 2),
        ("predicate/quorum", 0),
        ("predicate/part_sizes", [400]),
        ("predicate/part_sizes", [400, 0]),
        ("predicate/part_sizes", [400, 5, 5]),
        ("predicate/part_sizes", [400, True]),
        ("predicate/part_sizes", [400, 1 << 33]),
        ("predicate/total_bytes", 404),
        ("subject/2/name", "x0001.xor"),
        ("subject/3/name", "x0001.xor"),
    ],
)
def test_inconsistent_or_unknown_field_is_refused(path, value):
    with pytest.raises(ContentRefused, match="manifest"):
        parse_manifest(changed(path, value))


@pytest.mark.parametrize("field", sorted(json.loads(encode_manifest(MANIFEST))["predicate"]))
def test_absent_field_is_refused(field):
    document = json.loads(encode_manifest(MANIFEST))
    del document["predicate"][field]
    with pytest.raises(ContentRefused, match=f"expected the field {field}"):
        parse_manifest(canonical.encode(document))


def test_label_is_checked_before_it_is_signed():
    with pytest.raises(ContentRefused, match="at least 2 different signers, found 1"):
        check_label(replace(LABEL, quorum=2))
