"""The split goes by document and content, whatever the order of documents and however they are read."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.training import source as source_module
from appliance.training.data import split_documents
from appliance.training.documents import Span, character_start, scan, split, texts
from appliance.training.source import HeldBytes

DOCUMENTS = [bytes([97 + n % 26]) * (50 + n) for n in range(60)]
TEXT = st.binary(min_size=1, max_size=30).map(lambda data: data.replace(b"\0", b"x"))


def test_the_split_does_not_depend_on_the_order_of_documents():
    training, held_out = split_documents(DOCUMENTS, 0.2)
    other_training, other_held_out = split_documents(list(reversed(DOCUMENTS)), 0.2)
    assert held_out == other_held_out
    assert sorted(training) == sorted(other_training)


@given(st.lists(TEXT, min_size=2, max_size=30), st.floats(0.001, 0.5))
def test_every_document_falls_on_exactly_one_side_and_its_copies_with_it(documents, fraction):
    training, held_out = split_documents(documents, fraction)
    if len(set(documents)) > 1:
        assert sorted(training + held_out) == sorted(documents)
        assert not set(training) & set(held_out)
        assert held_out


def test_the_held_out_part_stays_within_its_fraction():
    for fraction in (0.05, 0.1, 0.5):
        training, held_out = split_documents(DOCUMENTS, fraction)
        share = sum(map(len, held_out)) / sum(map(len, training + held_out))
        assert 0.8 * fraction < share <= fraction


def test_a_single_document_is_cut_and_a_few_large_ones_give_their_shortest():
    assert split_documents([b"a" * 99 + b"b"], 0.01) == ([b"a" * 99], [b"b"])
    assert split_documents([b"aaaa", b"bbb", b"ccccc"], 0.1) == ([b"aaaa", b"ccccc"], [b"bbb"])
    assert split_documents([], 0.1) == ([], [])


def test_a_single_document_is_cut_between_two_characters():
    for size in range(1, 12):
        text = ("€ß𝄞a" * size).encode()
        (training,), (held_out,) = split_documents([text], 0.3)
        assert training.decode() + held_out.decode() == text.decode()
        assert 0.3 * len(text) - 1 < len(held_out) < 0.3 * len(text) + 4


def test_bytes_that_are_no_text_are_cut_where_asked():
    source = HeldBytes(b"\x80" * 20)
    assert character_start(source, 0, 10) == 10
    assert character_start(HeldBytes(b"ab\xc3\xa4"), 0, 3) == 2
    assert character_start(HeldBytes(b"ab\xc3\xa4"), 3, 3) == 3


@given(st.lists(st.binary(max_size=9), max_size=12), st.integers(1, 8))
def test_documents_are_found_whatever_the_size_of_a_block(found, block):
    data = b"\0".join(piece.replace(b"\0", b"") for piece in found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK_BYTES", block)
        documents = scan([HeldBytes(data)])
    expected = [piece for piece in data.split(b"\0") if piece]
    spans = [documents.span(number) for number in range(len(documents))]
    assert list(texts([HeldBytes(data)], spans)) == expected
    digests = [documents.digest(number) for number in range(len(documents))]
    assert digests == [hashlib.sha256(piece).digest() for piece in expected]


def test_what_is_held_out_of_one_source_is_held_out_of_all():
    first, second = DOCUMENTS[:40], DOCUMENTS[20:]
    sources = [HeldBytes(b"\0".join(part)) for part in (first, second)]
    parts = split(sources, 0.2)
    training = [set(texts(sources, spans)) for spans in parts.training]
    held_out = [set(texts(sources, spans)) for spans in parts.held_out]
    assert not (training[0] | training[1]) & (held_out[0] | held_out[1])
    assert training[0] | held_out[0] == set(first)
    assert training[1] | held_out[1] == set(second)


def test_a_source_that_is_one_held_out_document_has_nothing_to_train_on():
    held = split_documents(DOCUMENTS, 0.2)[1][0]
    sources = [HeldBytes(b"\0".join(DOCUMENTS)), HeldBytes(held)]
    parts = split(sources, 0.2)
    assert parts.training[1] == ()
    assert parts.held_out[1] == (Span(1, 0, len(held)),)
