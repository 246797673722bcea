"""Public facts: one spelling, and a difference is damage."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.egress import DEFAULTS
from appliance.errors import IntegrityError, UnknownObject
from appliance.home import MAX_FACTS_BYTES, Facts, Home, parse_facts, read_facts, read_officers, write_facts

FACTS = Facts(
    format=1,
    origin="appliance.invalid/x",
    profile="development",
    log_vkey="x+00000000+AAAA",
    log_pq_vkey="",
    bundle_vkey="x/bundle+00000000+AAAA",
    export_key_pem="pem",
    vault_recipient="age1v",
    transfer_recipient="age1t",
    custody="file:",
    log_custody="file:",
    policy_set="0" * 64,
    officers_sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    trust=("a+0+b",),
    witnesses=(),
    witness_quorum=0,
    people={"0": "operator"},
    roles={"operator": ("operator",)},
    compartments={"operator": ("clinical",)},
    recovery="",
    quorums={"export": {"people": 3}},
    budgets=DEFAULTS,
)


def test_facts_are_read_back_as_they_were_written(tmp_path):
    home = Home(tmp_path)
    write_facts(home, FACTS)
    assert read_facts(home) == FACTS
    assert read_facts(home).digest == FACTS.digest
    assert [path.name for path in tmp_path.iterdir()] == ["home.json"]


def test_the_people_and_names_it_holds():
    assert (FACTS.person_of(0), FACTS.person_of(1)) == ("operator", None)
    assert FACTS.bundle_name == "x/bundle"


def test_no_appliance_is_told_as_such(tmp_path):
    with pytest.raises(UnknownObject, match=r"no appliance in .*: make one with `appliance init`"):
        read_facts(Home(tmp_path))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        FACTS.canonical() + b" ",
        FACTS.canonical().replace(b'"format":1', b'"format":2'),
        FACTS.canonical().replace(b'"format":1', b'"format":true'),
        FACTS.canonical().replace(b'"format":1', b'"format": 1'),
        FACTS.canonical().replace(b"development", b"elsewhere"),
        FACTS.canonical().replace(b'"trust":["a+0+b"]', b'"trust":3'),
        FACTS.canonical().replace(b'{"operator":["operator"]}', b"[]"),
        FACTS.canonical().replace(b'"witness_quorum":0', b'"witness_quorum":1'),
        FACTS.canonical().replace(b'"witness_quorum":0', b'"witness_quorum":false'),
        FACTS.canonical().replace(b'"witnesses":[]', b'"witnesses":["w+0+b"]'),
        FACTS.canonical().replace(b'"witnesses":[]', b'"witnesses":null'),
        FACTS.canonical().replace(b'"custody"', b'"extra":1,"custody"'),
        b'{"format":1}' + b" " * MAX_FACTS_BYTES,
    ],
)
def test_facts_in_another_form_are_damage(raw):
    with pytest.raises(
        IntegrityError, match=r"home.json is damaged .*restore it from the log's genesis entry"
    ):
        parse_facts(raw, "home.json")


@given(st.integers(0, len(FACTS.canonical()) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_damage_or_another_digest(offset, flip):
    raw = bytearray(FACTS.canonical())
    raw[offset] ^= flip
    with contextlib.suppress(IntegrityError):
        assert parse_facts(bytes(raw), "home.json").digest != FACTS.digest


@given(st.integers(0, len(FACTS.canonical()) - 1))
def test_a_cut_file_is_damage(size):
    with pytest.raises(IntegrityError):
        parse_facts(FACTS.canonical()[:size], "home.json")


def test_canonical_means_sorted_ascii():
    assert FACTS.canonical() == json.dumps(
        json.loads(FACTS.canonical()), sort_keys=True, separators=(",", ":")
    ).encode("ascii")


def test_officers_are_read_only_as_the_facts_name_them(tmp_path):
    home = Home(tmp_path)
    assert read_officers(home, FACTS.officers_sha256) == ""
    home.officers.write_text("")
    assert read_officers(home, FACTS.officers_sha256) == ""
    home.officers.write_text("alice ssh-ed25519 AAAA\n")
    with pytest.raises(IntegrityError, match="officers differs from what the log's genesis entry names"):
        read_officers(home, FACTS.officers_sha256)


def test_every_place_of_a_home_lies_below_it(tmp_path):
    home = Home(tmp_path)
    places = [getattr(home, name) for name in dir(Home) if isinstance(getattr(Home, name), property)]
    assert len(places) == len(set(places)) == 11
    assert all(place.parent == tmp_path for place in places)
