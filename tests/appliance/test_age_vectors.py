"""Every rule of the age specification, must-accept and must-reject, against vectors made without our code."""

from __future__ import annotations

import fnmatch
import hashlib
import io
import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import age
from appliance.errors import ApplianceError, IntegrityError, WrongSecret
from tests.appliance.age_rules import RULES
from tests.appliance.age_vectors import OUTCOMES, VECTORS, Maker

AGE = shutil.which("age")
STRICTER = {
    "stanza sixty-five in all": "at most 64 stanzas",
    "header of more than 64 KiB": "bounded before anything is parsed",
    "header armor": "the appliance has no use for the textual form",
    "stanza two passphrases": "the public program leaves that rule to holders of the passphrase",
    "X25519 malformed beside a good one": "the public program stops at the first stanza that opens",
    "stanza passphrase beside a key": "the public program leaves that rule to holders of the passphrase",
}
MESSAGES = {
    "header": (IntegrityError, "age header|base64"),
    "mac": (IntegrityError, "MAC does not fit"),
    "no match": (WrongSecret, "no match"),
    "payload": (IntegrityError, "payload|nonce"),
}


def identities(vector):
    return [age.X25519Identity(s) for s in vector.curve] + [age.HybridIdentity(s) for s in vector.hybrid]


def by_name(vectors):
    return pytest.mark.parametrize("vector", vectors, ids=[v.name for v in vectors])


def matching(patterns):
    return {v.name for v in VECTORS for pattern in patterns if fnmatch.fnmatchcase(v.name, pattern)}


@pytest.mark.parametrize("rule", RULES, ids=[rule.text for rule in RULES])
def test_every_rule_has_files_that_keep_it_and_files_that_break_it(rule):
    for pattern in (*rule.opens, *rule.refused):
        assert matching([pattern]), f"no vector is called {pattern}"
    outcomes = {v.name: v.outcome for v in VECTORS}
    assert {outcomes[name] for name in matching(rule.opens)} == {"success"}
    refused = {outcomes[name] for name in matching(rule.refused)}
    assert refused
    assert "success" not in refused


def test_every_vector_stands_for_a_rule():
    shown = set().union(*(matching((*rule.opens, *rule.refused)) for rule in RULES))
    assert {v.name for v in VECTORS} - shown == set()


def test_the_generator_covers_every_outcome_and_repeats_no_name():
    assert {v.outcome for v in VECTORS} == set(OUTCOMES)
    assert len({v.name for v in VECTORS}) == len(VECTORS) > 170
    assert {v.outcome for v in VECTORS if v.name in STRICTER} == {"header"}


@by_name([v for v in VECTORS if v.outcome == "success"])
def test_a_file_that_the_specification_allows_opens(vector):
    out = io.BytesIO()
    assert age.decrypt(io.BytesIO(vector.data), out, identities(vector)) == len(vector.plain)
    assert out.getvalue() == vector.plain
    assert age.open_bytes(vector.data, identities(vector)) == vector.plain


@by_name([v for v in VECTORS if v.outcome != "success"])
def test_a_file_that_the_specification_forbids_is_refused(vector):
    error, message = MESSAGES[vector.outcome]
    with pytest.raises(error, match=message) as caught:
        age.open_bytes(vector.data, identities(vector))
    assert type(caught.value) is error


@by_name([v for v in VECTORS if v.outcome in {"success", "payload"}])
def test_the_seekable_reader_agrees_with_the_stream(vector, tmp_path):
    path = tmp_path / "file.age"
    path.write_bytes(vector.data)
    with path.open("rb") as stream:
        header = age.read_header(stream)
        key = age.payload_key(age.unwrap_file_key(header, identities(vector)), b"0" * 16)
        nonce = stream.read(age.NONCE_SIZE)
        offset = header.size + age.NONCE_SIZE
        if len(nonce) == age.NONCE_SIZE:
            key = age.payload_key(age.unwrap_file_key(header, identities(vector)), nonce)

        def read():
            reader = age.PayloadReader(stream.fileno(), key, offset, len(vector.data) - offset)
            return reader.read(reader.size + 1)

        if vector.outcome == "success":
            assert read() == vector.plain
        else:
            with pytest.raises(IntegrityError, match="payload"):
                read()


@pytest.mark.skipif(AGE is None, reason="the public age program is not installed")
@by_name([v for v in VECTORS if v.curve and v.name not in STRICTER])
def test_the_public_program_agrees_on_every_x25519_vector(vector, tmp_path):
    (tmp_path / "id").write_bytes(b"\n".join(bytes(age.X25519Identity(s).encode()) for s in vector.curve))
    done = subprocess.run(
        [AGE, "-d", "-i", tmp_path / "id"], input=vector.data, capture_output=True, check=False, timeout=20
    )
    if vector.outcome == "success":
        assert (done.returncode, done.stdout) == (0, vector.plain), done.stderr
    else:
        assert done.returncode != 0


def test_recipients_match_the_specification_s_examples():
    curve = age.parse_identity("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX")
    assert curve.secret() == b"\x42" * 32
    assert curve.recipient.text == "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    hybrid = age.parse_identity(
        "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR"
    )
    assert hashlib.sha256(hybrid.recipient.text.encode()).hexdigest() == HYBRID_EXAMPLE_SHA256


HYBRID_EXAMPLE_SHA256 = "a091dd7e0ee9d62b75173dcc98441a0424baa941e66a8776e570a4ae60ff61ea"


def test_what_we_wrap_opens_by_the_independent_hpke():
    maker = Maker(9)
    identity = age.HybridIdentity(maker.secret)
    assert identity.recipient.public == maker.hybrid_public(maker.secret)
    share, body = maker.hybrid_parts(maker.secret)
    stanza = age.Stanza(("mlkem768x25519", age.header.encode_base64(share).decode()), body)
    assert identity.unwrap(stanza) == maker.file_key


def every_offset(size):
    """All offsets of a small file; byte flips and cuts are exhaustive."""
    return range(size)


def test_no_byte_of_a_file_can_be_flipped():
    vector = next(v for v in VECTORS if v.name == "X25519 before grease")
    for at in every_offset(len(vector.data)):
        for bit in (0, 5, 7):
            data = bytearray(vector.data)
            data[at] ^= 1 << bit
            with pytest.raises(ApplianceError):
                age.open_bytes(bytes(data), identities(vector))


def test_no_cut_of_a_file_opens():
    vector = next(v for v in VECTORS if v.name == "X25519 before grease")
    for size in every_offset(len(vector.data)):
        with pytest.raises(IntegrityError):
            age.open_bytes(vector.data[:size], identities(vector))


def test_a_source_that_gives_a_few_bytes_at_a_time_is_no_shorter():
    class Drop(io.BytesIO):
        def readinto(self, buffer):
            return super().readinto(memoryview(buffer)[:1000])

    vector = next(v for v in VECTORS if v.name == "stream three")
    out = io.BytesIO()
    age.decrypt(Drop(vector.data), out, identities(vector))
    assert out.getvalue() == vector.plain
    with pytest.raises(IntegrityError, match="does not fit its tag"):
        age.decrypt(Drop(vector.data[:-1]), io.BytesIO(), identities(vector))


def test_a_header_without_end_costs_no_more_than_its_bound():
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            text = (b"age-encryption.org/v1\n" if not self.taken else b"") + b"-> x\n\n" * len(buffer)
            buffer[:] = text[: len(buffer)]
            self.taken += len(buffer)
            return len(buffer)

    source = Endless()
    with pytest.raises(IntegrityError, match="expected its end within 65536 bytes"):
        age.read_header(io.BufferedReader(source))
    assert source.taken <= 65536 + 2 * io.DEFAULT_BUFFER_SIZE


VISIBLE = st.text([chr(c) for c in range(33, 127)], min_size=1, max_size=12)
STANZA = st.builds(
    lambda a, b: age.Stanza(("x", *a), b), st.lists(VISIBLE, max_size=4), st.binary(max_size=120)
)


@given(st.lists(STANZA, min_size=1, max_size=6), st.binary(min_size=16, max_size=16))
def test_every_header_we_can_write_parses_to_itself(stanzas, file_key):
    raw = age.header.build_header(file_key, tuple(stanzas))
    parsed = age.parse_header(raw)
    assert (parsed.stanzas, parsed.raw) == (tuple(stanzas), raw)
    age.header.verify_mac(parsed, file_key)
    assert age.read_header(io.BytesIO(raw + b"payload")) == parsed


@given(
    st.lists(
        st.sampled_from([b"\n", b"-> ", b"---", b" ", b"A", b"x", b"A" * 64, b"AA", b"\r", b"\xff"]),
        max_size=12,
    )
)
def test_whatever_parses_as_a_header_is_in_its_one_form(pieces):
    raw = b"age-encryption.org/v1\n-> a\n" + b"".join(pieces) + b"\n--- " + b"A" * 43 + b"\n"
    try:
        parsed = age.parse_header(raw)
    except IntegrityError:
        return
    written = age.header.build_header(bytes(16), parsed.stanzas)
    assert written[:-44] == raw[:-44]


def test_random_bytes_are_no_header():
    for size in (0, 1, 100, 70_000):
        with pytest.raises(IntegrityError, match="age header"):
            age.parse_header(os.urandom(size))
