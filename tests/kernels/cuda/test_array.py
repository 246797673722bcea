"""Arrays on a device: what training does with an array itself, and nothing more."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda.array import zeros
from kernels.errors import ArrayRefused, DeviceFull
from tests.kernels.cuda.shim.device import ShimDevice


@pytest.fixture
def card():
    card = ShimDevice(1 << 20)
    yield card
    card.close()


def numbers(card, *shape):
    array = zeros(card, shape, np.float32)
    array[...] = np.arange(array.size).reshape(shape)
    return array


def test_an_array_is_zeros_until_it_is_written(card):
    array = zeros(card, (3, 4), np.float32)
    assert not np.asarray(array).any()
    array[1:2] = np.ones((1, 4))
    assert np.asarray(array).tolist() == [[0.0] * 4, [1.0] * 4, [0.0] * 4]
    array[...] = 0.0
    assert not np.asarray(array).any()


def test_views_share_memory(card):
    array = numbers(card, 24)
    table = array[4:16].reshape(3, 4)
    table[...] = 7.0
    assert np.asarray(array).tolist() == [0, 1, 2, 3, *[7] * 12, *range(16, 24)]
    assert table.reshape(-1).shape == (12,)
    assert table.reshape((2, -1)).shape == (2, 6)
    assert len(table) == 3


def test_a_turned_matrix_reads_as_its_transpose(card):
    array = numbers(card, 3, 4)
    assert np.array_equal(np.asarray(array.T), np.arange(12).reshape(3, 4).T)
    assert array.T.T.address == array.address
    for refused in (lambda: array.T.reshape(12), array.T.bytes, lambda: array.T[:1]):
        with pytest.raises(ArrayRefused, match="device array: expected"):
            refused()


def test_what_numpy_could_do_beside_is_refused(card):
    array = numbers(card, 4, 4)
    for key in (1, slice(None, None, 2), (slice(1), slice(1))):
        with pytest.raises(ArrayRefused, match="a run of the first axis"):
            array[key]
    with pytest.raises(ArrayRefused, match="expected 16 elements"):
        array.reshape(5, 4)
    with pytest.raises(ArrayRefused, match="a matrix to turn"):
        _ = array.reshape(16).T
    with pytest.raises(ArrayRefused, match=r"expected float32 \(4, 4\)"):
        array.write(np.zeros((4, 4)))


def test_a_copy_takes_an_array_of_its_own_kind(card):
    array = numbers(card, 5)
    copy = array.like()
    array.copy_to(copy, card.main)
    array[...] = 0.0
    assert np.asarray(copy).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ArrayRefused, match="expected float32"):
        array.copy_to(zeros(card, (5,), np.uint8), card.main)


def test_the_mean_is_taken_on_the_host(card):
    assert numbers(card, 4).mean(dtype=np.float64) == 1.5


def test_a_card_without_room_says_how_much_was_asked(card):
    with pytest.raises(DeviceFull, match="expected 2097152 bytes of device memory"):
        zeros(card, (1 << 21,), np.uint8)


def test_what_is_queued_does_not_run_before_somebody_waits(card):
    """The stand-in's own promise: without it, the other tests would not see a wait that is missing."""
    array = numbers(card, 8)
    pinned = card.pinned(32)
    card.download(pinned, array.address, card.main)
    assert bytes(pinned) == bytes(32)
    card.main.synchronize()
    assert np.frombuffer(pinned, np.float32).tolist() == list(range(8))
    with pytest.raises(AssertionError, match="page-locked"):
        card.download(memoryview(bytearray(32)), array.address, card.main)
    with pytest.raises(AssertionError, match="beyond what was allocated"):
        card.clear(array.address, 1 << 10, card.main)
