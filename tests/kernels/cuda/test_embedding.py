"""Embedding of the CUDA sources: the sort that makes its gradient repeatable, and the sums over chunks."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import reference
from kernels.cuda import launches
from tests.kernels.cpu.conftest import off, wide
from tests.kernels.cpu.test_ops import Draw


def sorted_places(device, tokens, V):
    N = tokens.size
    counts = np.zeros((256, launches.sort_blocks(N)), np.uint32)
    keys, rows, given = None, None, tokens
    for shift in launches.sort_shifts(V):
        to_keys, to_rows = np.zeros(N, np.uint32), np.zeros(N, np.uint32)
        count, scan, scatter = launches.sort_pass(N)
        device(count, counts=counts, tokens=given, keys=keys, shift=shift, N=N)
        device(scan, counts=counts, length=counts.size)
        order = {"to_keys": to_keys, "to_rows": to_rows, "starts": counts}
        device(scatter, **order, tokens=given, keys=keys, rows=rows, shift=shift, N=N)
        keys, rows, given = to_keys, to_rows, None
    return keys, rows


@pytest.mark.parametrize(("count", "vocabulary"), [(1, 1), (33, 2), (1030, 300), (2500, 70_000)])
def test_the_sort_is_stable(device, count, vocabulary):
    tokens = np.random.default_rng(count).integers(0, vocabulary, count)
    keys, rows = sorted_places(device, tokens, vocabulary)
    np.testing.assert_array_equal(rows, np.argsort(tokens, kind="stable"))
    np.testing.assert_array_equal(keys, np.sort(tokens))


def test_rows_of_both_tables_are_summed(device):
    draw, tokens = Draw("fp32"), np.array([[3, 1, 3, 0], [3, 0, 1, 1]])
    table, positions = draw.stream(5, 37), draw.stream(6, 37)
    for at in (positions, None):
        out, expected = draw.empty(2, 4, 37), np.empty((2, 4, 37))
        how = launches.embedding_forward(N=8, C=37)
        device(how, out=out, tokens=tokens, table=table, positions=at, N=8, T=4, C=37)
        given = None if at is None else wide(at)
        reference.embedding_forward(expected, tokens=tokens, table=wide(table), positions=given)
        assert off(out, expected) < 1e-7


# Runs inside a chunk of 64, across one edge, over whole chunks, and all one token.
@pytest.mark.parametrize(("shape", "vocabulary"), [((1, 1), 3), ((3, 50), 9), ((2, 130), 2), ((2, 96), 1)])
@pytest.mark.parametrize("C", [31, 132])
def test_a_token_that_occurs_often_gets_the_sum_of_its_rows(device, shape, vocabulary, C):
    (B, T), draw, N = shape, Draw("fp32"), shape[0] * shape[1]
    tokens, dout = np.random.default_rng(1).integers(0, vocabulary, (B, T)), draw.stream(B, T, C)
    found = [np.ones((vocabulary, C), np.float32), np.ones((T + 1, C), np.float32)]
    expected = [array.astype(np.float64) for array in found]
    reference.embedding_backward(*expected, dout=wide(dout), tokens=tokens)
    how = launches.embedding_positions(T=T, C=C)
    device(how, dpositions=found[1], dout=dout, B=B, T=T, C=C)
    keys, rows = sorted_places(device, tokens, vocabulary)
    edges = np.full((launches.embedding_parts(N), 2, C), np.nan, np.float32)
    chunks, across = launches.embedding_backward(N=N, C=C)
    device(chunks, dtable=found[0], edges=edges, dout=dout, keys=keys, rows=rows, N=N, C=C)
    device(across, dtable=found[0], edges=edges, keys=keys, N=N, C=C)
    for one, other in zip(found, expected, strict=True):
        assert off(one, other) < 1e-6
