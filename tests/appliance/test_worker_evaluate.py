"""What an evaluation predicts: every document behind a separator, in the model's own vocabulary."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from appliance.errors import ContentRefused
from appliance.training.bpe import BytePairs, train
from appliance.training.source import HeldBytes
from appliance.training.tokenizer import ByteTokenizer
from appliance.worker.evaluate import _text


class Granted:
    """A corpus that was granted, opened."""

    def __init__(self, plaintext):
        self._plaintext = plaintext
        self.closed = False

    def reader(self):
        return contextlib.nullcontext(HeldBytes(self._plaintext))

    def close(self):
        self.closed = True


def test_every_document_is_predicted_behind_a_separator():
    item = Granted(b"one\0\0two")
    text = _text(item, ByteTokenizer())
    np.testing.assert_array_equal(text.tokens, np.frombuffer(b"\0one\0two", np.uint8))
    assert text.size_bytes == len(b"one\0two")
    assert item.closed


def test_byte_pairs_count_the_bytes_that_they_stand_for():
    pairs = BytePairs(train([(b"one two one two", "here")], 260))
    text = _text(Granted(b"one\0two"), pairs)
    assert text.tokens.size < 1 + len(b"one") + 1 + len(b"two")
    assert text.size_bytes == len(b"one\0two")


@pytest.mark.parametrize("plaintext", [b"", b"\0\0"])
def test_a_corpus_with_nothing_to_predict_is_refused(plaintext):
    with pytest.raises(ContentRefused, match="expected at least 2 tokens"):
        _text(Granted(plaintext), ByteTokenizer())
