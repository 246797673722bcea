from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import AuditError, BadSignature, Malformed
from audit.note import COSIGNATURE_V1, NoteSigner, VerifierKey, sign_note, verify_note

TEXT = "log.example/test\n3\nroot\n"

# The example of the signed-note specification, and of Go's golang.org/x/mod/sumdb/note documentation.
PETER_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNX"
    "gKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def cosigned(witness, text, seconds):
    message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
    key = VerifierKey(witness.name, COSIGNATURE_V1, witness.vkey.public_key)
    blob = key.key_id + struct.pack(">Q", seconds) + witness.sign(message)
    return key, f"— {witness.name} {base64.b64encode(blob).decode()}\n".encode()


def test_a_published_note_and_key_of_another_implementation_verify():
    key = VerifierKey.parse(PETER_KEY)
    note = verify_note(PETER_NOTE.encode(), [key])
    assert note.text == PETER_NOTE.split("\n\n", maxsplit=1)[0] + "\n"
    assert note.names == ("PeterNeumann",)
    assert key.text == PETER_KEY


def test_a_signed_note_verifies_under_its_signers_key(signer):
    note = sign_note(TEXT, [signer])
    assert verify_note(note, [signer.vkey]).text == TEXT
    assert sign_note(TEXT, [signer]) == note  # deterministic: signing again after a crash forks nothing


def test_a_text_with_empty_lines_is_split_at_the_last_one(signer):
    text = "one\n\ntwo\n\n\n"
    assert verify_note(sign_note(text, [signer]), [signer.vkey]).text == text


def test_a_key_line_and_its_object_are_inverses(signer):
    assert VerifierKey.parse(signer.vkey.text + "\n") == signer.vkey


def test_unknown_signatures_are_ignored_beside_a_known_one(signer):
    other = NoteSigner("other.example", bytes(32))
    note = sign_note(TEXT, [other, signer, signer])
    assert verify_note(note, [signer.vkey]).names == (signer.name,)
    assert verify_note(note, [signer.vkey, other.vkey]).names == (other.name, signer.name)


def test_a_note_without_a_known_signature_is_refused(signer, stranger):
    with pytest.raises(BadSignature, match=r"expected a signature by log\.example/test, found only"):
        verify_note(sign_note(TEXT, [signer]), [stranger.vkey])
    with pytest.raises(BadSignature, match="a known key"):
        verify_note(sign_note(TEXT, [signer]), [])


def test_one_bad_signature_by_a_known_key_refuses_the_whole_note(signer):
    other = NoteSigner("other.example", bytes(32))
    good = sign_note(TEXT, [signer])
    forged = sign_note("another text\n", [other]).split(b"\n\n")[1]
    assert verify_note(good + forged, [signer.vkey])
    with pytest.raises(BadSignature, match=r"signature by other\.example does not fit"):
        verify_note(good + forged, [signer.vkey, other.vkey])


def test_a_signature_of_the_wrong_length_is_refused(signer):
    line = base64.b64encode(signer.vkey.key_id + b"short").decode()
    with pytest.raises(BadSignature, match="does not fit"):
        verify_note(f"{TEXT}\n— {signer.name} {line}\n".encode(), [signer.vkey])


def test_a_witness_cosignature_covers_time_and_text(signer):
    witness = NoteSigner("witness.example", bytes(32))
    key, line = cosigned(witness, TEXT, 1_750_000_000)
    note = sign_note(TEXT, [signer]) + line
    assert verify_note(note, [signer.vkey, key]).names == (signer.name, "witness.example")
    _, other_text = cosigned(witness, "another\n", 1_750_000_000)
    with pytest.raises(BadSignature, match=r"signature by witness\.example"):
        verify_note(sign_note(TEXT, [signer]) + other_text, [signer.vkey, key])
    cut = base64.b64encode(key.key_id + bytes(64)).decode()
    with pytest.raises(BadSignature, match="expected 72 bytes, found 64"):
        verify_note(f"{TEXT}\n— witness.example {cut}\n".encode(), [key])


def test_sixteen_signatures_are_accepted_and_a_hundred_refused(signer):
    others = [NoteSigner(f"w{i}.example", bytes([i]) * 32) for i in range(15)]
    assert verify_note(sign_note(TEXT, [*others, signer]), [signer.vkey])
    with pytest.raises(Malformed, match="at most 64 signatures, found 100"):
        verify_note(sign_note(TEXT, [signer] * 100), [signer.vkey])


def test_a_huge_note_is_refused_unread(signer):
    with pytest.raises(Malformed, match="at most 131072 bytes"):
        verify_note(b"x" * (1 << 20), [signer.vkey])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty line and signature lines"),
        (b"text\n", "an empty line and signature lines"),
        (b"text\n\n", "an empty line and signature lines"),
        (b"text\n\n\xe2\x80\x94 a b", "is the end cut off"),
        (b"\xff\n\n", "UTF-8"),
        (b"te\x07xt\n\nx\n", "control characters"),
        (b"text\n\n- name aaaa\n", "em dash"),
        ("text\n\n— name\n".encode(), "em dash"),
        ("text\n\n— na me aaaa\n".encode(), "em dash"),
        ("text\n\n— na+me aaaa\n".encode(), "key name"),
        ("text\n\n— name a*aa\n".encode(), "expected base64"),
        ("text\n\n— name aaa\n".encode(), "expected base64"),
        ("text\n\n— name ab==\n".encode(), "canonical base64"),
        ("text\n\n— name aaaa\n".encode(), "a key id and a signature, found 3 bytes"),
    ],
)
def test_a_malformed_note_is_refused_with_the_reason(signer, data, message):
    with pytest.raises(Malformed, match=message):
        verify_note(data, [signer.vkey])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "name.id.key"),
        ("name+12345678", "name.id.key"),
        ("n" * 600, "name.id.key"),
        ("+12345678+AAAA", "key name"),
        ("na me+12345678+AAAA", "key name"),
        ("name+12345678+AAAA", "expected type 0x01 or 0x04"),
        ("name+12345678+" + base64.b64encode(b"\x02" + bytes(32)).decode(), "found 33 bytes beginning 02"),
        ("name+12345678+" + base64.b64encode(b"\x01" + bytes(32)).decode(), "copied wrongly"),
        ("name+12345678+####", "expected base64"),
    ],
)
def test_a_malformed_key_is_refused_with_the_reason(line, message):
    with pytest.raises(Malformed, match=message):
        VerifierKey.parse(line)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_a_signer_needs_a_name_that_a_note_can_carry(name):
    with pytest.raises(Malformed, match="key name"):
        NoteSigner(name, bytes(32))


def test_a_signer_needs_a_seed_of_32_bytes_and_never_shows_it():
    with pytest.raises(Malformed, match="seed of 32 bytes, found 31"):
        NoteSigner("name", bytes(31))
    assert "seed" not in repr(NoteSigner("name", bytearray(32)))


@pytest.mark.parametrize("text", ["no newline", "bell\x07\n"])
def test_a_text_that_cannot_be_signed_is_refused(signer, text):
    with pytest.raises(Malformed):
        sign_note(text, [signer])


def test_a_note_needs_a_signer():
    with pytest.raises(Malformed, match="at least one signer"):
        sign_note(TEXT, [])


def test_every_flipped_byte_of_a_note_is_noticed(signer):
    note = sign_note(TEXT, [signer])
    for position in range(len(note)):
        flipped = bytearray(note)
        flipped[position] ^= 0x01
        with pytest.raises(AuditError):
            verify_note(bytes(flipped), [signer.vkey])


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail_otherwise(data):
    with pytest.raises(AuditError):
        verify_note(data, [NoteSigner("n", bytes(32)).vkey])


@given(st.text(max_size=200))
def test_no_text_makes_the_key_reader_fail_otherwise(text):
    with pytest.raises(Malformed):
        VerifierKey.parse(text)
