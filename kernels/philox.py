"""Philox 4x32-10: random words as a pure function of a key and a counter.

Every backend draws the same words for the same place, in whatever order and on however many threads it asks:
that is what makes dropout repeatable. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
3", section 3.3; the constants are those of its Random123 library, whose test vectors the tests hold.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROUNDS = 10
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEP_0, _KEY_STEP_1 = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

Words = npt.NDArray[np.uint64]


def philox(counter: tuple[Words, Words, Words, Words], key: int) -> Words:
    """Return the four 32-bit words of each counter, uint64 (…, 4), for a key of 64 bits.

    `counter` is four arrays of values below 2³² that broadcast together; the low word of the key comes first.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*counter)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(ROUNDS):
        left, right = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (
            (right >> _HALF) ^ c1 ^ np.uint64(k0),
            right & _LOW,
            (left >> _HALF) ^ c3 ^ np.uint64(k1),
            left & _LOW,
        )
        k0, k1 = (k0 + _KEY_STEP_0) & 0xFFFFFFFF, (k1 + _KEY_STEP_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)
