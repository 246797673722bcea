"""The split goes by document and content; a batch is a function of seed and step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContentRefused
from appliance.training.data import ByteCorpus, split_documents

DOCUMENTS = [bytes([97 + n % 26]) * (50 + n) for n in range(60)]


def test_the_split_does_not_depend_on_the_order_of_documents():
    training, held_out = split_documents(DOCUMENTS, 0.2)
    other_training, other_held_out = split_documents(list(reversed(DOCUMENTS)), 0.2)
    assert held_out == other_held_out
    assert sorted(training) == sorted(other_training)


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=2, max_size=30), st.floats(0.001, 0.5))
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


def test_streams_hold_every_document_after_a_nul(config_of):
    corpus = ByteCorpus([b"one\0two\0\0three and some more text", bytearray(b"four\0five")], config_of())
    documents = sorted((corpus.training.tobytes() + corpus.held_out.tobytes()).split(b"\0")[1:])
    assert documents.count(b"") == 0
    assert sorted(d for d in documents if d) == [
        b"five",
        b"four",
        b"one",
        b"three and some more text",
        b"two",
    ]


def test_a_batch_is_a_function_of_seed_and_step(config_of, text):
    config = config_of()
    corpus, again = ByteCorpus([text], config), ByteCorpus([memoryview(text)], config)
    for step in (5, 0, 10**9):
        assert (corpus.batch(step).tokens == again.batch(step).tokens).all()
    assert (corpus.batch(0).tokens != corpus.batch(1).tokens).any()
    assert (corpus.batch(0).tokens != ByteCorpus([text], config_of(seed=9)).batch(0).tokens).any()


def test_targets_are_the_bytes_after_the_tokens_and_come_from_the_training_stream(config_of, text):
    corpus = ByteCorpus([text], config_of())
    stream = corpus.training.tobytes()
    for step in range(20):
        batch = corpus.batch(step)
        assert batch.tokens.dtype == batch.targets.dtype == np.int64
        assert (batch.tokens[:, 1:] == batch.targets[:, :-1]).all()
        for row, target in zip(batch.tokens, batch.targets, strict=True):
            assert bytes(row.tolist()) + bytes([target[-1]]) in stream


def test_the_last_byte_of_the_stream_is_reached(config_of):
    config = config_of(batch=8)
    corpus = ByteCorpus([b"0123456789abcdefXY"], config)  # 17 bytes and their NUL to train on: 2 windows
    seen = {corpus.batch(step).targets[row, -1] for step in range(20) for row in range(8)}
    assert corpus.training.size == 18
    assert seen == {corpus.training[16], corpus.training[17]}


@pytest.mark.parametrize("plaintexts", [[], [b""], [b"\0\0\0"], [b"a"], [b"short"], [b"a" * 16]])
def test_too_little_text_is_refused_with_the_numbers(plaintexts, config_of):
    with pytest.raises(
        ContentRefused, match=r"corpus: expected more than model\.context = 16 bytes .*found \d+ and"
    ):
        ByteCorpus(plaintexts, config_of())
