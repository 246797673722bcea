"""Philox gives the published words, and a word depends on its place alone."""

import numpy as np
import pytest

from kernels.philox import philox

# Known answers of Random123 (Salmon et al. 2011), "philox4x32 10": counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_the_words_are_those_of_the_published_vectors(counter, key, words):
    found = philox(tuple(np.asarray(word, np.uint64) for word in counter), key[0] | key[1] << 32)
    assert tuple(found.tolist()) == words


def test_many_counters_at_once_give_the_words_of_each_alone():
    columns, rows = np.arange(5, dtype=np.uint64), np.arange(3, dtype=np.uint64)[:, None]
    stream, step = np.asarray(8, np.uint64), np.asarray(9, np.uint64)
    found = philox((columns, rows, stream, step), 77)
    assert found.shape == (3, 5, 4)
    for row, column in np.ndindex(3, 5):
        alone = philox((np.uint64(column), np.uint64(row), stream, step), 77)
        assert (found[row, column] == alone).all()
