"""A tokenizer gives back the bytes it got; a table has one way to be written, and no other is read."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContentRefused
from appliance.training.config import ModelConfig
from appliance.training.tokenizer import (
    ByteTokenizer,
    Merges,
    check_vocabulary,
    parse_tokenizer,
)

A, B = 1 + ord("a"), 1 + ord("b")
TABLE = Merges(((A, B), (257, 257), (A, 257)))


def test_bytes_are_their_own_tokens():
    every = bytes(range(256))
    tokens = ByteTokenizer().encode(every, "here")
    assert tokens.tolist() == list(range(256))
    assert b"".join(ByteTokenizer().bytes_of(token) for token in tokens.tolist()) == every


def test_a_table_numbers_the_separator_the_bytes_and_then_what_is_merged():
    assert TABLE.tokens[0] == b"\0"
    assert TABLE.tokens[1:257] == [bytes([value]) for value in range(256)]
    assert TABLE.tokens[257:] == [b"ab", b"abab", b"aab"]


def test_a_pair_with_the_bytes_of_another_token_gives_that_token():
    table = Merges(((A, B), (B, A), (257, A), (A, 258)))  # ab+a and a+ba are both "aba"
    assert table.tokens[257:] == [b"ab", b"ba", b"aba"]


def test_a_table_makes_a_round_trip():
    assert parse_tokenizer(TABLE.encode()).pairs == TABLE.pairs
    assert parse_tokenizer(Merges(()).encode()).pairs == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected ASCII JSON"),
        (b"\xff", "expected ASCII JSON"),
        (b"[" * 100_000, "expected ASCII JSON"),
        (b"[]", "an object of the format 'appliance-bpe/1'"),
        (b'{"format":"other"}', "an object of the format 'appliance-bpe/1'"),
        (b'{"format":"appliance-bpe/1"}', "at most 1048576 merges, each two numbers"),
        (b'{"format":"appliance-bpe/1","merges":[[1]]}', "each two numbers"),
        (b'{"format":"appliance-bpe/1","merges":[[1,true]]}', "each two numbers"),
        (b'{"format":"appliance-bpe/1","merges":[[1,-1]]}', "each two numbers"),
        (b'{"format":"appliance-bpe/1","merges":[[1,2.0]]}', "each two numbers"),
        (b'{"format":"appliance-bpe/1","merges":[[1,258]]}', "merge 0: expected two tokens from 1 to 256"),
        (b'{"format":"appliance-bpe/1","merges":[[0,1]]}', "merge 0: expected two tokens from 1 to 256"),
        (TABLE.encode() + b" ", "expected the one way to write this table"),
        (TABLE.encode().replace(b",", b", "), "expected the one way to write this table"),
        (TABLE.encode().replace(b"{", b'{"more":1,'), "expected the one way to write this table"),
    ],
)
def test_anything_else_is_refused(data, message):
    with pytest.raises(ContentRefused, match=message):
        parse_tokenizer(data)


def test_a_token_that_doubles_for_ever_is_refused():
    pairs = [[A, A], *([token, token] for token in range(257, 300))]
    data = json.dumps({"format": "appliance-bpe/1", "merges": pairs}).encode()
    with pytest.raises(ContentRefused, match="merge 10: expected a token of at most 1024 bytes, found 2048"):
        parse_tokenizer(data)


@given(st.integers(0, len(TABLE.encode()) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_another_table(place, flip):
    data = bytearray(TABLE.encode())
    data[place] ^= flip
    with contextlib.suppress(ContentRefused):
        assert parse_tokenizer(bytes(data)).encode() == bytes(data)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_never_escape_the_parser(data):
    with pytest.raises(ContentRefused):
        parse_tokenizer(data)


def test_another_vocabulary_than_the_models_is_refused():
    check_vocabulary(ByteTokenizer(), ModelConfig(1, 8, 1, 8))
    with pytest.raises(
        ContentRefused, match=r"vocabulary mismatch: the model has 300 tokens .*, the tokenizer 256"
    ):
        check_vocabulary(ByteTokenizer(), ModelConfig(1, 8, 1, 8, vocabulary=300))


def test_tokens_of_bytes_are_unsigned():
    assert ByteTokenizer().encode(b"\xff", "here").dtype == np.uint8
