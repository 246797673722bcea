"""The order in which a run sees its text: keyed permutations, computed one place at a time.

A permutation of n windows or 10¹² needs no memory: a balanced Feistel network over the smallest even number
of bits that holds n, walked again while its result is n or more (Black & Rogaway 2002, "cycle walking"). It
is a bijection whatever its round function is; ours mixes well (MurmurHash3's finaliser) and is no cipher.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from appliance.training import randomness

ROUNDS = 6
BLOCK = 1024  # sequences of a mixture that keep its weights among themselves

Places = npt.NDArray[np.uint64]


def permuted(places: Places, size: int, seed: int, purpose: randomness.Purpose, counter: int) -> Places:
    """Return where each of `places`, below `size`, goes in the permutation of (seed, purpose, counter)."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = _round_keys(seed, purpose, counter)
    result = _feistel(places, half, keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half, keys)
    return result


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int, purpose: randomness.Purpose, counter: int) -> tuple[np.uint64, ...]:
    return tuple(randomness.raw(seed, purpose, counter, ROUNDS))


def _feistel(places: Places, half: int, keys: tuple[np.uint64, ...]) -> Places:
    """One pass over 2·half bits."""
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = places >> bits, places & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return left << bits | right


def _mix(words: Places) -> Places:
    """MurmurHash3's 64-bit finaliser: each bit in changes each bit out with a chance of about a half."""
    words = (words ^ words >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ words >> np.uint64(33)) * np.uint64(0xC4CEB9FE1A85EC53)
    return words ^ words >> np.uint64(33)


def quotas(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Share out a block by `weights`, which sum to one: largest remainders first, ties in order."""
    exact = [weight * BLOCK for weight in weights]
    shares = [int(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda index: (shares[index] - exact[index], index))
    for index in order[: BLOCK - sum(shares)]:
        shares[index] += 1
    return tuple(shares)


def mixed(first: int, count: int, weights: tuple[float, ...], seed: int) -> tuple[Places, Places]:
    """Deal sequences [first, first + count) to corpora: the corpus of each, and its number within it.

    In every block of 1,024 sequences, corpora get their quotas in an order of that block's own. The numbers
    of one corpus run from 0 without a gap.
    """
    sequences = np.arange(first, first + count, dtype=np.uint64)
    if len(weights) == 1:
        return np.zeros_like(sequences), sequences
    shares = np.asarray(quotas(weights), np.uint64)
    ends = np.cumsum(shares)
    block, slot = sequences // np.uint64(BLOCK), sequences % np.uint64(BLOCK)
    for number in np.unique(block):
        here = block == number
        slot[here] = permuted(slot[here], BLOCK, seed, randomness.Purpose.MIXTURE, int(number))
    corpus = np.searchsorted(ends, slot, side="right").astype(np.uint64)
    begin = (ends - shares)[corpus]
    return corpus, block * shares[corpus] + slot - begin
