"""A lineage statement has one spelling and hides what is secret."""

import json

import pytest

from appliance.bundle import canonical
from appliance.errors import ContentRefused
from appliance.export.lineage import Commitment, encode_lineage, parse_lineage


def test_statement_is_read_back(exported):
    assert parse_lineage(encode_lineage(exported.lineage)) == exported.lineage


def test_numbers_beyond_53_bits_survive(exported):
    exported.restate(flops=10**25)
    assert parse_lineage(encode_lineage(exported.lineage)).flops == 10**25


def test_secret_stands_as_a_commitment_only(exported):
    document = json.loads(encode_lineage(exported.lineage))
    assert document["predicate"]["flops"] == {"commitment": "89" * 32, "entry": 1}
    assert isinstance(exported.lineage.flops, Commitment)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "x"),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("extra", 1),
        ("subject", [{"name": "../x", "digest": {"sha256": "00" * 32}}]),
        ("predicate/extra", 1),
        ("predicate/profile", "production"),
        ("predicate/object", "ab"),
        ("predicate/seed", 3),
        ("predicate/seed", "03"),
        ("predicate/seed", "-1"),
        ("predicate/seed", {"commitment": "00" * 32}),
        ("predicate/flops", {"commitment": "00" * 32, "entry": 1, "value": 3}),
        ("predicate/materials", [{"kind": "pickle", "object": "00" * 32, "sha256": "00" * 32}]),
        ("predicate/code", {"version": "1"}),
        ("predicate/receipts", [{"name": "../x", "index": 1, "action": "train"}]),
        ("predicate/approvals", [{"person": "ann", "fingerprint": "f"}]),
    ],
)
def test_field_outside_the_format_is_refused(exported, path, value):
    document = json.loads(encode_lineage(exported.lineage))
    *parents, last = path.split("/")
    at = document
    for step in parents:
        at = at[step]
    at[last] = value
    with pytest.raises(ContentRefused):
        parse_lineage(canonical.encode(document))


def test_subject_named_twice_is_refused(exported):
    document = json.loads(encode_lineage(exported.lineage))
    document["subject"].append(document["subject"][-1])
    with pytest.raises(ContentRefused, match="subjects sorted and each once"):
        parse_lineage(canonical.encode(document))
