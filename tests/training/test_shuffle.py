"""Keyed permutations are bijections, mixtures keep their weights, and both follow from the seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.training.randomness import Purpose
from appliance.training.shuffle import BLOCK, mixed, permuted, quotas


def order(size, seed=1, counter=0):
    return permuted(np.arange(size, dtype=np.uint64), size, seed, Purpose.SHUFFLE, counter)


@given(st.integers(1, 3000), st.integers(0, 2**63 - 1), st.integers(0, 2**40))
def test_every_place_is_taken_once(size, seed, counter):
    assert sorted(order(size, seed, counter).tolist()) == list(range(size))


def test_a_place_alone_goes_where_it_goes_among_others():
    whole = order(1000)
    for place in (0, 1, 500, 999):
        alone = permuted(np.asarray([place], np.uint64), 1000, 1, Purpose.SHUFFLE, 0)
        assert alone == whole[place]


def test_a_huge_permutation_needs_no_memory():
    size = 10**15
    places = np.arange(1000, dtype=np.uint64)
    found = permuted(places, size, 3, Purpose.SHUFFLE, 9)
    assert len(set(found.tolist())) == 1000
    assert (found < size).all()
    assert found.astype(np.float64).mean() == pytest.approx(size / 2, rel=0.1)


def test_orders_of_epochs_seeds_and_purposes_are_unlike():
    seen = [order(1000), order(1000, counter=1), order(1000, seed=2)]
    seen.append(permuted(np.arange(1000, dtype=np.uint64), 1000, 1, Purpose.MIXTURE, 0))
    for index, one in enumerate(seen):
        assert (one == np.arange(1000)).mean() < 0.02
        for other in seen[:index]:
            assert (one == other).mean() < 0.02


def test_neighbours_are_torn_apart():
    found = order(4096).astype(np.int64)
    assert (np.abs(np.diff(found)) < 41).mean() < 0.05  # by chance two per cent
    assert abs(np.corrcoef(np.arange(4096), found)[0, 1]) < 0.06  # four deviations


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1.0,), (1024,)),
        ((0.5, 0.5), (512, 512)),
        ((1 / 3, 1 / 3, 1 / 3), (342, 341, 341)),
        ((0.004, 0.996), (4, 1020)),
    ],
)
def test_a_block_is_shared_out_by_weight(weights, expected):
    assert quotas(weights) == expected


@given(st.lists(st.floats(0.01, 1.0), min_size=2, max_size=16), st.integers(0, 2**40), st.integers(0, 2**62))
def test_a_mixture_deals_each_block_by_quota_and_numbers_without_a_gap(raw, block, seed):
    weights = tuple(value / sum(raw) for value in raw)
    corpus, numbers = mixed(block * BLOCK, BLOCK, weights, seed)
    for index, share in enumerate(quotas(weights)):
        mine = sorted(numbers[corpus == index].tolist())
        assert mine == list(range(block * share, (block + 1) * share))


def test_a_part_of_a_mixture_is_the_same_part_of_the_whole():
    weights = (0.2, 0.3, 0.5)
    corpus, numbers = mixed(1000, 100, weights, 7)  # over the edge of a block
    for index in range(100):
        one, number = mixed(1000 + index, 1, weights, 7)
        assert (one[0], number[0]) == (corpus[index], numbers[index])
    assert set(corpus.tolist()) == {0, 1, 2}


def test_one_corpus_is_numbered_as_it_comes():
    corpus, numbers = mixed(5, 4, (1.0,), 1)
    assert corpus.tolist() == [0] * 4
    assert numbers.tolist() == [5, 6, 7, 8]
