from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.checkpoint import TreeHead, sign_tree_head
from audit.entry import encode_entry
from audit.errors import AuditError, BadSignature, Invalid, Malformed
from audit.merkle import leaf_hash
from audit.receipt import Receipt, format_receipt, parse_receipt, verify_receipt

HASH = base64.b64encode(bytes(32)).decode()


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.binary(max_size=99),
    st.none() | st.binary(max_size=99),
)
def test_a_receipt_and_its_file_are_inverses(index, proof, note, extra):
    assert parse_receipt(format_receipt(index, proof, note, extra)) == Receipt(
        index, tuple(proof), note, extra
    )


def test_receipts_of_a_log_verify(finished, signer):
    for data, entry in finished[1]:
        verified = verify_receipt(data, entry, signer.vkey)
        assert verified.entry.seq == verified.index == verified.head.size - 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 300_000, "at most"),
        (b"", "expected 'c2sp.org/tlog-proof@v1'"),
        (b"c2sp.org/tlog-proof@v2\nindex 0\n\nnote", "expected 'c2sp.org/tlog-proof@v1'"),
        (b"c2sp.org/tlog-proof@v1\nindex 0\n", "an empty line"),
        (b"c2sp.org/tlog-proof@v1\n\nnote", "a line 'index N'"),
        (b"c2sp.org/tlog-proof@v1\nextra AAAA\n\nnote", "a line 'index N'"),
        (b"c2sp.org/tlog-proof@v1\nextra !\nindex 0\n\nnote", "receipt extra: expected base64"),
        (b"c2sp.org/tlog-proof@v1\nindex 00\n\nnote", "leading zeros"),
        (b"c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\nnote", "hashes of 32 bytes"),
        (b"c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA\n\nnote", "expected base64"),
        (b"c2sp.org/tlog-proof@v1\nindex 0\n\xff\n\nnote", "expected ASCII"),
        (
            f"c2sp.org/tlog-proof@v1\nindex 0\n{(HASH + chr(10)) * 64}\nnote".encode(),
            "at most 63 proof lines",
        ),
    ],
)
def test_a_malformed_receipt_is_refused_with_the_reason(data, message):
    with pytest.raises(Malformed, match=message):
        parse_receipt(data)


def test_a_receipt_of_another_log_is_refused(finished, stranger):
    data, entry = finished[1][0]
    with pytest.raises(BadSignature, match="is this the right key file"):
        verify_receipt(data, entry, stranger.vkey)


def test_a_receipt_for_another_entry_is_refused(finished, signer):
    (data, _), (_, other) = finished[1][:2]
    with pytest.raises(Invalid, match="the entry, the proof or the head was changed"):
        verify_receipt(data, other, signer.vkey)


def test_an_entry_that_misnames_its_place_is_refused(record, signer):
    entry = encode_entry(record(), 5, "2026-01-02T03:04:05.000000Z")
    note = sign_tree_head(TreeHead(signer.name, 1, leaf_hash(entry)), signer)
    with pytest.raises(Invalid, match="expected entry 0, found an entry that calls itself 5"):
        verify_receipt(format_receipt(0, [], note), entry, signer.vkey)


def test_every_flipped_byte_of_receipt_and_entry_is_noticed(finished, signer):
    data, entry = finished[1][1]
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 0x01
        with pytest.raises(AuditError):
            verify_receipt(bytes(flipped), entry, signer.vkey)
    for position in range(len(entry)):
        flipped = bytearray(entry)
        flipped[position] ^= 0x20
        with pytest.raises(Invalid):
            verify_receipt(data, bytes(flipped), signer.vkey)


def test_every_cut_receipt_is_refused(finished, signer):
    data, entry = finished[1][1]
    for length in range(len(data)):
        with pytest.raises(AuditError):
            verify_receipt(data[:length], entry, signer.vkey)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_fail_otherwise(data):
    with pytest.raises(Malformed):
        parse_receipt(data)
