"""ChaCha20 and Poly1305 of the CUDA sources: RFC 8439's vectors, the CPU path's bytes, and every edge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from appliance.age.chunk import CHUNK_SIZE, SEALED_SIZE, TAG_SIZE, Lane
from kernels.cuda import sealed_launches as launches

NEVER = 2**64 - 1  # no chunk has this number: none is the last
GUARD = 0x5C
EDGES = [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 495, 496, 497, 511, 512, 513, 1000]
CHUNK_EDGES = [CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 2 * CHUNK_SIZE + 16]

# RFC 8439, section 2.4.2 (key 00 01 … 1f, nonce 00 00 00 00 00 00 00 4a 00 00 00 00, counter 1).
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)
SUNSCREEN_SEALED = bytes.fromhex(
    "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
    "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
    "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
    "5af90bbf74a35be6b40b8eedf2785e42874d"
)
# RFC 8439, appendix A.1: the keystream of the zero key and nonce, blocks 0 and 1.
ZERO_BLOCKS = bytes.fromhex(
    "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
    "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
    "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
)
# RFC 8439, section 2.5.2.
FORUM_KEY = bytes.fromhex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
FORUM_TAG = bytes.fromhex("a8061dc1305136c6c22b8baf0c0127a9")


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


def room(size: int) -> np.ndarray:
    """So many bytes, with a guard behind them that nothing may write to."""
    return np.full(size + 64, GUARD, np.uint8)


def taken(guarded: np.ndarray) -> bytes:
    assert (guarded[-64:] == GUARD).all(), "written beyond the end"
    return guarded[:-64].tobytes()


def chunks_of(plain_size: int) -> int:
    return max(1, -(-plain_size // CHUNK_SIZE))


def seal_on_host(key: bytes, first: int, plain: bytes) -> bytes:
    out = bytearray(len(plain) + TAG_SIZE * chunks_of(len(plain)))
    Lane(key).seal(first, memoryview(plain), memoryview(out), final=True)
    return bytes(out)


def one_time_keys(device, key, first, last, count):
    keys = np.zeros(8 * count, np.uint32)
    device(launches.one_time_keys(count), keys=keys, key=array(key), first=first, last=last, count=count)
    return keys


def refused(device, key, first, sealed, plain_size):
    count = chunks_of(plain_size)
    verdict = np.full(count, 7, np.uint32)
    keys = one_time_keys(device, key, first, first + count - 1, count)
    how = launches.verify_chunks(count)
    device(how, refused=verdict, sealed=array(sealed), keys=keys, count=count, size=len(sealed))
    return verdict


def open_on_device(device, key, first, sealed, plain_size, begin, size, verdict=None, offset=0):
    count = chunks_of(plain_size)
    plain = room(offset + size)
    device(
        launches.open_segment(begin, size),
        plain=plain[offset:],
        sealed=array(sealed),
        refused=np.zeros(count, np.uint32) if verdict is None else verdict,
        key=array(key),
        first=first,
        last=first + count - 1,
        begin=begin,
        size=size,
    )
    assert (plain[:offset] == GUARD).all(), "written before the beginning"
    return taken(plain)[offset:]


def seal_on_device(device, key, first, plain, cuts=()):
    count = chunks_of(len(plain))
    sealed = room(len(plain) + TAG_SIZE * count)
    edges = [0, *cuts, len(plain)]
    for begin, end in itertools.pairwise(edges):
        if end > begin:
            device(
                launches.seal_segment(begin, end - begin),
                sealed=sealed,
                plain=array(plain[begin:end]),
                key=array(key),
                first=first,
                last=first + count - 1,
                begin=begin,
                size=end - begin,
            )
    keys = one_time_keys(device, key, first, first + count - 1, count)
    how = launches.tag_chunks(count)
    device(how, sealed=sealed, keys=keys, count=count, size=len(sealed) - 64)
    return taken(sealed)


def poly1305(key: bytes, text: bytes) -> bytes:
    """RFC 8439, section 2.5.1, in whole numbers."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(text), 16):
        total = (total + int.from_bytes(text[at : at + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return (total + int.from_bytes(key[16:], "little") & (2**128 - 1)).to_bytes(16, "little")


def tag_on_device(device, key: bytes, text: bytes) -> bytes:
    sealed = array(text + bytes(TAG_SIZE))
    one_time = np.frombuffer(key, np.uint32).copy()
    device(launches.tag_chunks(1), sealed=sealed, keys=one_time, count=1, size=len(sealed))
    return sealed[len(text) :].tobytes()


def authenticated(text: bytes) -> bytes:
    """RFC 8439, section 2.8, without additional data."""
    return text + bytes(-len(text) % 16) + bytes(8) + len(text).to_bytes(8, "little")


@pytest.fixture
def drawn():
    return np.random.default_rng(8439).bytes


def test_the_keystream_is_that_of_the_rfc(device):
    key, first = bytes(range(32)), 0x4A000000  # as chunk number this is the nonce of section 2.4.2
    sealed = room(len(SUNSCREEN))
    device(
        launches.seal_segment(0, len(SUNSCREEN)),
        sealed=sealed,
        plain=array(SUNSCREEN),
        key=array(key),
        first=first,
        last=NEVER,
        begin=0,
        size=len(SUNSCREEN),
    )
    assert taken(sealed) == SUNSCREEN_SEALED
    assert one_time_keys(device, bytes(32), 0, NEVER, 1).tobytes() == ZERO_BLOCKS[:32]


def test_the_zero_key_gives_the_block_of_the_appendix(device):
    sealed = room(64)
    how = launches.seal_segment(0, 64)
    zeros = array(bytes(64))
    device(how, sealed=sealed, plain=zeros, key=array(bytes(32)), first=0, last=NEVER, begin=0, size=64)
    assert taken(sealed) == ZERO_BLOCKS[64:]


def test_the_whole_number_poly1305_of_these_tests_is_that_of_the_rfc():
    assert poly1305(FORUM_KEY, b"Cryptographic Forum Research Group") == FORUM_TAG


@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x80])
@pytest.mark.parametrize("r", [bytes(16), b"\x01" + bytes(15), b"\x02" + bytes(15), b"\xff" * 16])
def test_the_tag_is_right_where_carries_run_far(device, fill, r):
    for s in (bytes(16), b"\xff" * 16):
        for size in (0, 16, 17, 496, 512, 1040):
            text = bytes([fill]) * size
            assert tag_on_device(device, r + s, text) == poly1305(r + s, authenticated(text)), size


def test_sums_around_the_prime_are_reduced(device):
    """Blocks near 2^130 and a small r: RFC 8439, appendix A.3, cases 7 to 11."""
    one = b"\x01" + bytes(15)
    for last in range(0xF0, 0x100):
        text = b"\xff" * 16 + bytes([last]) + b"\xff" * 15
        for r in (one, b"\x02" + bytes(15), b"\x04" + bytes(15)):
            assert tag_on_device(device, r + bytes(16), text) == poly1305(r + bytes(16), authenticated(text))


@pytest.mark.parametrize("size", [0, *EDGES, *CHUNK_EDGES])
def test_what_the_host_sealed_opens_on_the_device_and_the_other_way_round(device, drawn, size):
    key, plain = drawn(32), drawn(size)
    sealed = seal_on_host(key, 0, plain)
    assert not refused(device, key, 0, sealed, size).any()
    if size:
        assert open_on_device(device, key, 0, sealed, size, 0, size) == plain
    assert seal_on_device(device, key, 0, plain) == sealed


@pytest.mark.parametrize("first", [1, 255, 256, 2**16 - 1, 2**24 + 3, 2**40 + 5, 2**56 + 7])
def test_a_chunks_number_reaches_every_byte_of_its_nonce(device, drawn, first):
    key, plain = drawn(32), drawn(100)
    sealed = seal_on_host(key, first, plain)
    assert not refused(device, key, first, sealed, 100).any()
    assert open_on_device(device, key, first, sealed, 100, 0, 100) == plain


@pytest.mark.parametrize("offset", [0, 1, 4, 16])
@pytest.mark.parametrize(
    ("begin", "size"), [(0, 1), (63, 2), (1, 300), (64, 64), (65_500, 100), (70_000, 999)]
)
def test_a_part_is_opened_to_any_address_and_nothing_beside_it(device, drawn, begin, size, offset):
    key, plain = drawn(32), drawn(CHUNK_SIZE + 6_000)
    sealed = seal_on_host(key, 9, plain)
    part = open_on_device(device, key, 9, sealed, len(plain), begin, size, offset=offset)
    assert part == plain[begin : begin + size]


def test_a_payload_is_sealed_from_pieces_that_meet_within_a_block(device, drawn):
    key, plain = drawn(32), drawn(CHUNK_SIZE + 500)
    cuts = (1, 63, 66, 1_000, CHUNK_SIZE - 1, CHUNK_SIZE + 3)
    assert seal_on_device(device, key, 0, plain, cuts) == seal_on_host(key, 0, plain)


@pytest.mark.parametrize("size", [0, 1, 100, CHUNK_SIZE, CHUNK_SIZE + 40])
def test_a_flipped_byte_is_refused_in_its_chunk_and_no_other(device, drawn, size):
    key, plain = drawn(32), drawn(size)
    sealed = bytearray(seal_on_host(key, 0, plain))
    count = chunks_of(size)
    for at in {0, len(sealed) // 2, len(sealed) - TAG_SIZE, len(sealed) - 1}:
        sealed[at] ^= 0x40
        verdict = refused(device, key, 0, sealed, size) != 0
        assert verdict.tolist() == [chunk == min(at // SEALED_SIZE, count - 1) for chunk in range(count)]
        sealed[at] ^= 0x40


def test_a_refused_chunk_is_zeros_and_its_neighbour_is_not(device, drawn):
    key, plain = drawn(32), drawn(CHUNK_SIZE + 200)
    sealed = seal_on_host(key, 0, plain)
    verdict = np.array([1, 0], np.uint32)
    opened = open_on_device(device, key, 0, sealed, len(plain), 0, len(plain), verdict)
    assert opened == bytes(CHUNK_SIZE) + plain[CHUNK_SIZE:]


def test_a_moved_chunk_and_a_false_end_are_refused(device, drawn):
    key, plain = drawn(32), drawn(50)
    sealed = seal_on_host(key, 4, plain)
    assert refused(device, key, 5, sealed, 50).all()
    keys = one_time_keys(device, key, 4, NEVER, 1)  # as if more were to follow
    verdict = np.zeros(1, np.uint32)
    how = launches.verify_chunks(1)
    device(how, refused=verdict, sealed=array(sealed), keys=keys, count=1, size=len(sealed))
    assert verdict.all()
