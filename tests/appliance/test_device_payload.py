"""Payloads opened and sealed on a device: the host path's bytes, and every way to damage one."""

from __future__ import annotations

import os

import numpy as np
import pytest

from appliance.age.chunk import CHUNK_SIZE, SEALED_SIZE, TAG_SIZE, Lane
from appliance.errors import IntegrityError, UsageError
from appliance.worker.device_opener import DeviceOpener
from appliance.worker.device_sealer import DeviceSealer
from kernels.cuda.array import zeros
from kernels.errors import DeviceFailed, DeviceFull
from tests.kernels.cuda.shim import library
from tests.kernels.cuda.shim.device import ShimDevice

SIZES = [0, 1, 1_000, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE, 5 * CHUNK_SIZE + 77]
NONCE_SIZE = 16
KEY = bytes(range(32))


@pytest.fixture
def card():
    if reason := library.missing():
        pytest.skip(reason)
    card = ShimDevice(1 << 26)
    yield card
    card.close()


def drawn(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def sealed_on_host(plain: bytes) -> bytes:
    out = bytearray(len(plain) + TAG_SIZE * max(1, -(-len(plain) // CHUNK_SIZE)))
    Lane(KEY).seal(0, memoryview(plain), memoryview(out), final=True)
    return bytes(out)


@pytest.fixture
def opener(card, tmp_path):
    """`opener(sealed bytes)`: a `DeviceOpener` with slices of two chunks."""
    descriptors, opened = [], []

    def make(sealed: bytes, key: bytes = KEY) -> DeviceOpener:
        path = tmp_path / f"payload-{len(descriptors)}"
        path.write_bytes(bytes(NONCE_SIZE) + sealed)
        descriptors.append(os.open(path, os.O_RDONLY))
        opened.append(
            DeviceOpener(card, descriptors[-1], bytearray(key), NONCE_SIZE, len(sealed), slice_chunks=2)
        )
        return opened[-1]

    yield make
    for each in opened:
        each.close()
    for descriptor in descriptors:
        os.close(descriptor)


def room(card, size: int):
    array = zeros(card, (size,), np.uint8)
    array[:] = np.full(size, 0x5C, np.uint8)
    return array


@pytest.mark.parametrize("size", SIZES)
def test_a_payload_opens_whole_where_it_is_to_lie(card, opener, size):
    plain = drawn(size)
    target = room(card, size + 32)
    source = opener(sealed_on_host(plain))
    assert source.size == size
    source.open_into(target[16 : 16 + size], 0)
    found = np.asarray(target).tobytes()
    assert found[16 : 16 + size] == plain
    assert found[:16] == found[-16:] == b"\x5c" * 16


def test_parts_open_in_any_order_and_across_chunks_and_slices(card, opener):
    plain = drawn(5 * CHUNK_SIZE + 77)
    source = opener(sealed_on_host(plain))
    for offset, size in [(0, 10), (CHUNK_SIZE - 3, 6), (4 * CHUNK_SIZE, 500), (7, 4 * CHUNK_SIZE), (77, 1)]:
        target = room(card, size)
        source.open_into(target, offset)
        assert np.asarray(target).tobytes() == plain[offset : offset + size]


def test_neighbours_in_the_order_of_the_file_are_copied_once(card, opener):
    plain = drawn(6 * CHUNK_SIZE)
    source = opener(sealed_on_host(plain))
    before = card.launched.count("poly1305_verify")
    for offset in range(0, len(plain), 10_000):
        source.open_into(room(card, min(10_000, len(plain) - offset)), offset)
    assert card.launched.count("poly1305_verify") - before <= 3  # slices, one of them there already


def test_a_header_reaches_the_host_and_nothing_beside_it(card, opener):
    plain = drawn(2 * CHUNK_SIZE)
    head = bytearray(100)
    opener(sealed_on_host(plain)).open_into(head, CHUNK_SIZE - 50)
    assert head == plain[CHUNK_SIZE - 50 : CHUNK_SIZE + 50]
    assert all(
        plain[at : at + 16] not in bytes(held) for held in card.page_locked for at in (0, 200, CHUNK_SIZE)
    )


@pytest.mark.parametrize("chunk", [0, 1, 3, 5])
@pytest.mark.parametrize("place", ["first byte", "tag"])
def test_a_flipped_byte_names_its_chunk_and_leaves_zeros(card, opener, chunk, place):
    plain = drawn(6 * CHUNK_SIZE)
    sealed = bytearray(sealed_on_host(plain))
    sealed[chunk * SEALED_SIZE + (0 if place == "first byte" else SEALED_SIZE - 1)] ^= 1
    target = room(card, len(plain))
    with pytest.raises(IntegrityError, match=f"chunk {chunk} does not fit its tag") as refused:
        opener(sealed).open_into(target, 0)
    assert refused.value.chunk == chunk
    if chunk < 4:  # the end is verified before anything is written
        assert np.asarray(target).tobytes() == bytes(len(plain))
    else:
        assert np.asarray(target).tobytes() == b"\x5c" * len(plain)


@pytest.mark.parametrize("cut", [1, TAG_SIZE, SEALED_SIZE, SEALED_SIZE + 1])
def test_a_truncated_payload_is_refused_before_anything_is_opened(opener, cut):
    sealed = sealed_on_host(drawn(3 * CHUNK_SIZE))
    with pytest.raises(IntegrityError):
        opener(sealed[:-cut])


def test_an_extended_or_empty_payload_is_refused(opener):
    sealed = sealed_on_host(drawn(2 * CHUNK_SIZE))
    for damaged in (
        sealed + bytes(40),
        sealed + bytes(SEALED_SIZE),
        sealed + bytes(TAG_SIZE),
        b"",
        bytes(15),
    ):
        with pytest.raises(IntegrityError):
            opener(damaged)


def test_a_file_that_shrinks_while_it_is_read_is_refused(card, opener, tmp_path):
    source = opener(sealed_on_host(drawn(6 * CHUNK_SIZE)))
    os.truncate(tmp_path / "payload-0", 3 * SEALED_SIZE)
    target = room(card, 4 * CHUNK_SIZE)
    with pytest.raises(IntegrityError, match="found the end"):
        source.open_into(target, 0)
    assert np.asarray(target).tobytes() == bytes(4 * CHUNK_SIZE)


def test_another_key_opens_nothing(opener):
    with pytest.raises(IntegrityError, match="chunk 0"):
        opener(sealed_on_host(b"weights"), key=bytes(32))


def test_a_range_beyond_the_end_is_refused(card, opener):
    source = opener(sealed_on_host(drawn(100)))
    with pytest.raises(UsageError, match="within 100 bytes"):
        source.open_into(room(card, 2), 99)


def test_a_card_without_room_says_so_and_keeps_nothing(opener, card):
    card.size = 100_000
    with pytest.raises(DeviceFull, match="expected"):
        opener(sealed_on_host(drawn(4 * CHUNK_SIZE)))
    assert not card.memory


def test_a_card_that_is_lost_in_mid_load_leaves_zeros(card, opener):
    plain = drawn(6 * CHUNK_SIZE)
    source = opener(sealed_on_host(plain))
    target = room(card, len(plain))
    card.fails_at = "chacha20_open"
    with pytest.raises(DeviceFailed, match="chacha20_open"):
        source.open_into(target, 0)
    card.fails_at = ""
    assert np.asarray(target).tobytes() == bytes(len(plain))


@pytest.mark.parametrize("size", SIZES)
def test_what_the_device_seals_is_what_the_host_seals(card, size):
    plain, sealed = drawn(size), bytearray()
    sealer = DeviceSealer(card, bytearray(KEY), sealed.extend, slice_chunks=2)
    source = room(card, size + 1)
    source[:size] = np.frombuffer(plain, np.uint8)
    sealer.seal_from(plain[: size // 3])  # a header from the host, then arrays
    for start, stop in [(size // 3, size // 2), (size // 2, size)]:
        sealer.seal_from(source[start:stop])
        source[start:stop] = np.zeros(stop - start, np.uint8)  # the caller's again
    sealer.close()
    assert bytes(sealed) == sealed_on_host(plain)
    assert sealer.size == size


def test_what_was_not_closed_does_not_open(card, opener):
    sealed = bytearray()
    sealer = DeviceSealer(card, bytearray(KEY), sealed.extend, slice_chunks=1)
    sealer.seal_from(room(card, 3 * CHUNK_SIZE))
    sealer.discard()
    with pytest.raises(IntegrityError):
        opener(bytes(sealed))
    with pytest.raises(UsageError, match="closed or failed"):
        sealer.seal_from(b"more")


def test_a_sink_that_fails_shuts_the_sealer(card):
    def full(_: memoryview) -> None:
        raise OSError(28, "no space")

    sealer = DeviceSealer(card, bytearray(KEY), full, slice_chunks=1)
    with pytest.raises(OSError, match="no space"):
        sealer.seal_from(room(card, 4 * CHUNK_SIZE))
    with pytest.raises(UsageError, match="closed or failed"):
        sealer.seal_from(b"more")
    sealer.discard()


@pytest.mark.parametrize("way", ["open", "seal"])
def test_a_key_is_on_the_device_while_it_is_used_and_nowhere_afterwards(card, opener, way):
    handed = bytearray(KEY)
    if way == "open":
        user = opener(sealed_on_host(drawn(100)))
    else:
        user = DeviceSealer(card, handed, bytearray().extend, slice_chunks=1)
        assert handed == bytes(32)
    assert KEY in card.contents()  # positive control
    assert not any(KEY in bytes(held) for held in card.page_locked)
    user.close()
    assert KEY not in card.contents()
    assert not card.memory
