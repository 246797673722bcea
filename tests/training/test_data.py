"""Batches follow from seed and step; epochs show every window once; slices give what held tokens give."""

import numpy as np
import pytest

from appliance.errors import ContentRefused
from appliance.training.data import Corpus, count_bytes
from appliance.training.tokenizer import ByteTokenizer
from tests.training.memory import InMemory

STREAM = bytes(1 + n % 255 for n in range(1000))


def test_a_batch_is_a_function_of_seed_and_step(config_of, corpus_of, text):
    config = config_of()
    corpus, again = corpus_of([text], config), corpus_of([memoryview(text)], config)
    for step in (5, 0, 10**9):
        assert (corpus.batch(step).tokens == again.batch(step).tokens).all()
    assert (corpus.batch(0).tokens != corpus.batch(1).tokens).any()
    assert (corpus.batch(0).tokens != corpus_of([text], config_of(seed=9)).batch(0).tokens).any()


def test_a_part_of_a_batch_is_what_whoever_asks_for_it_alone_gets(config_of, corpus_of, text):
    corpus = corpus_of([text], config_of(batch=2, accumulate=4))
    whole = corpus.batch(7)
    assert whole.tokens.shape == (8, 16)
    for row in range(8):
        part = corpus.sequences(7 * 8 + row, 1)
        assert (part.tokens == whole.tokens[row]).all()
        assert (part.targets == whole.targets[row]).all()


def test_targets_are_the_tokens_after_and_come_from_the_training_part(config_of, corpus_of, text):
    corpus = corpus_of([text], config_of())
    held_out = corpus.held_out.tokens.tobytes()
    stream = b"".join(b"\0" + part for part in text.split(b"\0") if b"\0" + part not in held_out)
    for step in range(20):
        batch = corpus.batch(step)
        assert batch.tokens.dtype == batch.targets.dtype == np.int64
        assert batch.tokens.flags.c_contiguous
        assert batch.targets.flags.c_contiguous
        assert (batch.tokens[:, 1:] == batch.targets[:, :-1]).all()
        for row, target in zip(batch.tokens, batch.targets, strict=True):
            assert bytes(row.tolist()) + bytes([target[-1]]) in stream


def test_an_epoch_shows_every_window_once_and_the_next_cuts_and_orders_anew(config_of, corpus_of):
    corpus = corpus_of([STREAM], config_of(batch=5))
    # 900 bytes and their NUL to train on; 55 windows of 16 fit behind any shift.
    firsts = [corpus.sequences(55 * epoch, 55).tokens[:, 0].tolist() for epoch in range(4)]
    assert [len(set(first)) for first in firsts] == [55] * 4
    assert len({min(first) for first in firsts}) > 1
    assert firsts[0] != firsts[1]


def test_an_epoch_covers_the_stream_without_overlap(config_of, corpus_of):
    text = np.random.default_rng(0).permutation(np.arange(1, 256)).astype(np.uint8).tobytes()
    corpus = corpus_of([text], config_of(validation_fraction=0.01))
    for epoch in range(5):
        tokens = corpus.sequences(14 * epoch, 14).tokens  # 253 bytes and their NUL: 14 windows
        seen = tokens.ravel().tolist()
        assert len(set(seen)) == len(seen) == 14 * 16
        places = sorted(text.find(bytes([row[0]])) if row[0] else -1 for row in tokens.tolist())
        assert set(np.diff(places).tolist()) == {16}


def test_the_last_token_of_the_stream_is_reached(config_of, corpus_of):
    config = config_of(batch=8)
    corpus = corpus_of([b"0123456789abcdefXY"], config)  # 17 bytes and their NUL to train on: 2 places
    seen = {int(corpus.batch(step).targets[row, -1]) for step in range(20) for row in range(8)}
    assert seen == set(b"fX")


def test_several_corpora_are_mixed_by_weight(config_of, corpus_of):
    config = config_of(batch=1024, data="corpus = {a = 1, b = 3}")
    corpus = corpus_of([b"a" * 500, b"b" * 500], config)
    share = (corpus.batch(3).tokens[:, 1] == ord("a")).mean()
    assert share == 0.25
    held_out = corpus.held_out.tokens.tobytes()
    assert held_out == b"\0" + b"a" * 50 + b"\0" + b"b" * 50


def test_the_held_out_part_is_looked_at_by_weight_up_to_the_tokens_asked_for(config_of, corpus_of):
    config = config_of(eval_tokens=40, data="corpus = {a = 1, b = 3}")
    corpus = corpus_of([b"a" * 500, b"b" * 500], config)
    assert corpus.held_out.tokens.tobytes() == b"\0" + b"a" * 9 + b"\0" + b"b" * 29
    assert corpus.held_out.size_bytes == 39


def test_a_corpus_beyond_its_budget_is_read_in_slices_and_gives_the_same_batches(config_of, corpus_of):
    words = np.random.default_rng(1).integers(97, 123, 2_500_000).astype(np.uint8)
    words[::7] = 32
    words[::5003] = 0
    source = InMemory(words.tobytes())
    budget = 'corpus = "t"\nmemory = {}'
    sliced = Corpus({"t": source}, ByteTokenizer(), config_of(data=budget.format(2), eval_tokens=1000))
    held = corpus_of([words.tobytes()], config_of(data=budget.format(3), eval_tokens=1000))
    assert (sliced.held, held.held) == (False, True)
    assert max(count for _, count in source.reads) <= 1 << 20
    source.reads.clear()
    for step in range(50):
        one, other = sliced.batch(step), held.batch(step)
        assert (one.tokens == other.tokens).all()
        assert (one.targets == other.targets).all()
    assert 0 < max(count for _, count in source.reads) <= 1 << 16
    assert (sliced.held_out.tokens == held.held_out.tokens).all()


@pytest.mark.parametrize("plaintext", [b"", b"\0\0\0", b"a", b"short", b"a" * 16])
def test_too_little_text_is_refused_with_the_numbers(plaintext, config_of, corpus_of):
    with pytest.raises(
        ContentRefused,
        match=r"corpus t: expected more than model\.context = 16 tokens .*found \d+ tokens in \d",
    ):
        corpus_of([plaintext], config_of())


def test_one_corpus_of_several_that_is_too_small_is_named(config_of, corpus_of):
    config = config_of(data="corpus = {large = 1, small = 1}")
    with pytest.raises(ContentRefused, match="corpus small: expected more than"):
        corpus_of([b"a" * 500, b"b"], config)


def test_bytes_are_bytes_whether_or_not_they_are_text(config_of, corpus_of):
    data = bytes(range(1, 256)) * 3
    corpus = corpus_of([data], config_of())
    assert set(np.unique(corpus.sequences(0, 200).tokens)) >= set(range(1, 256)) - {0}


def test_bytes_are_counted_by_what_tokens_stand_for():
    assert count_bytes(np.frombuffer(b"ab\0c", np.uint8), ByteTokenizer()) == 4
