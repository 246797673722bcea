"""What an evaluation predicts: every document behind a separator, in the model's own vocabulary."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from appliance.errors import ContentRefused
from appliance.training.config import parse_config
from appliance.training.source import HeldBytes
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


def config(vocabulary=256):
    return parse_config(f'[model]\nvocabulary = {vocabulary}\n[data]\ncorpus = "t"\n'.encode())


def test_every_document_is_predicted_behind_a_separator():
    item = Granted(b"one\0\0two")
    text = _text(item, config())
    np.testing.assert_array_equal(text.tokens, np.frombuffer(b"\0one\0two", np.uint8))
    assert text.size_bytes == len(b"one\0two")
    assert item.closed


def test_a_model_of_another_vocabulary_is_refused_before_anything_is_read():
    item = Granted(b"one")
    with pytest.raises(ContentRefused, match="vocabulary"):
        _text(item, config(vocabulary=300))
    assert not item.closed


@pytest.mark.parametrize("plaintext", [b"", b"\0\0"])
def test_a_corpus_with_nothing_to_predict_is_refused(plaintext):
    with pytest.raises(ContentRefused, match="expected at least 2 tokens"):
        _text(Granted(plaintext), config())
