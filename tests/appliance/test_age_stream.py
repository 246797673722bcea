"""The payload writer and the seekable reader: any sizes, any positions, and a disk that fills up."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import age
from appliance.age import chunk, stream
from appliance.errors import IntegrityError, SpaceExhausted, UsageError

KEY = bytes(range(32))
CHUNK = chunk.CHUNK_SIZE
EDGES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 16 * CHUNK, 33 * CHUNK + 5, 65 * CHUNK]


def pattern(size):
    return bytes(range(251)) * (size // 251 + 1)


def sealed(plain, pieces=()):
    out = bytearray()
    with age.PayloadWriter(out.extend, KEY) as writer:
        at = 0
        for piece in pieces:
            writer.write(plain[at : at + piece])
            at += piece
        writer.write(plain[at:])
    return bytes(out)


@pytest.fixture
def opened(tmp_path):
    files = []

    def make(data, key=KEY, offset=0, length=None):
        path = tmp_path / f"{len(files)}"
        path.write_bytes(bytes(offset) + data)
        files.append(os.open(path, os.O_RDONLY))
        return age.PayloadReader(files[-1], key, offset, len(data) if length is None else length)

    yield make
    for fd in files:
        os.close(fd)


@pytest.mark.parametrize("size", EDGES)
def test_what_is_written_is_read_whatever_the_size(opened, size):
    plain = pattern(size)[:size]
    data = sealed(plain)
    assert len(data) == size + 16 * max(1, -(-size // CHUNK))
    reader = opened(data, offset=7)
    assert reader.size == size
    assert reader.readall() == plain
    assert reader.read(1) == b""


@given(st.lists(st.sampled_from([0, 1, 70_000, CHUNK, 32 * CHUNK, 33 * CHUNK + 1, 70 * CHUNK]), max_size=4))
def test_how_the_writer_is_fed_does_not_matter(pieces):
    plain = pattern(sum(pieces))[: sum(pieces)]
    assert sealed(plain, pieces) == sealed(plain)


@given(st.lists(st.tuples(st.integers(0, 5 * CHUNK), st.integers(0, 3 * CHUNK)), min_size=1, max_size=8))
def test_every_seek_and_read_is_a_slice(tmp_path_factory, reads):
    plain = pattern(4 * CHUNK + 99)[: 4 * CHUNK + 99]
    path = tmp_path_factory.getbasetemp() / "slices"
    path.write_bytes(sealed(plain))
    fd = os.open(path, os.O_RDONLY)
    try:
        reader = age.PayloadReader(fd, KEY, 0, path.stat().st_size)
        for start, size in reads:
            assert reader.seek(start) == start
            assert reader.read(size) == plain[start : start + size]
    finally:
        os.close(fd)


def test_seeking_counts_from_start_here_and_end_and_stops_before_zero(opened):
    reader = opened(sealed(pattern(100)[:100]))
    assert reader.readable()
    assert reader.seekable()
    assert (reader.seek(-10, os.SEEK_END), reader.seek(3, os.SEEK_CUR), reader.tell()) == (90, 93, 93)
    assert reader.read() == pattern(100)[93:100]
    with pytest.raises(UsageError, match="expected a position of 0 or more, found -1 from 0"):
        reader.seek(-1)


def test_the_end_is_verified_before_any_position_is_trusted(opened):
    data = sealed(pattern(3 * CHUNK)[: 3 * CHUNK])
    for cut in (data[:-1], data[: chunk.SEALED_SIZE], data[: 2 * chunk.SEALED_SIZE], data + data[:20]):
        with pytest.raises(IntegrityError, match=r"chunk . does not fit its tag"):
            opened(cut)


def test_lengths_that_no_writer_leaves_are_refused(opened):
    for length in (0, 15, chunk.SEALED_SIZE + 1, chunk.SEALED_SIZE + 16):
        with pytest.raises(
            IntegrityError, match=f"found {length % chunk.SEALED_SIZE}; it was cut or extended"
        ):
            opened(bytes(length))


def test_a_range_is_opened_into_the_given_buffer_and_nothing_beside_it(opened):
    plain = pattern(70 * CHUNK + 99)[: 70 * CHUNK + 99]
    reader = opened(sealed(plain), offset=5)
    for offset, size in ((0, len(plain)), (1, 68 * CHUNK), (CHUNK, 69 * CHUNK), (70 * CHUNK, 99), (7, 0)):
        room = bytearray(b"\xaa" * (size + 20))
        reader.open_into(memoryview(room)[10 : 10 + size], offset)
        assert room[10 : 10 + size] == plain[offset : offset + size]
        assert room[:10] == room[10 + size :] == b"\xaa" * 10
    for offset, size in ((0, len(plain) + 1), (len(plain), 1), (-1, 1)):
        with pytest.raises(UsageError, match=f"expected a range within {len(plain)} bytes"):
            reader.open_into(bytearray(size), offset)


@pytest.mark.parametrize("damaged", [0, 33, 69])
def test_one_damaged_chunk_of_many_leaves_nothing_of_the_others_and_no_thread(opened, damaged):
    data = bytearray(sealed(pattern(71 * CHUNK)))
    data[damaged * chunk.SEALED_SIZE + 70] ^= 1
    reader = opened(bytes(data))
    threads = threading.active_count()
    out = bytearray(b"\xaa" * 70 * CHUNK)
    with pytest.raises(IntegrityError, match=f"chunk {damaged} does not fit its tag"):
        reader.open_into(out, 0)
    assert out == bytes(70 * CHUNK)
    assert threading.active_count() == threads


def test_a_damaged_chunk_yields_an_error_and_no_unverified_byte(opened):
    data = bytearray(sealed(pattern(3 * CHUNK)[: 3 * CHUNK]))
    data[chunk.SEALED_SIZE + 5] ^= 1
    reader = opened(bytes(data))
    out = bytearray(b"\xaa" * 3 * CHUNK)
    with pytest.raises(IntegrityError, match="chunk 1 does not fit its tag"):
        reader.readinto(out)
    assert out == bytes(3 * CHUNK)
    assert reader.tell() == 0
    assert reader.read(10) == pattern(10)[:10]  # what is whole still opens


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(sealed(pattern(2 * CHUNK)[: 2 * CHUNK]))
    with path.open("rb") as stream_:
        reader = age.PayloadReader(stream_.fileno(), KEY, 0, path.stat().st_size)
        os.truncate(path, 10)
        with pytest.raises(IntegrityError, match="found the end at 10"):
            reader.read(10)


def test_another_key_opens_nothing(opened):
    with pytest.raises(IntegrityError, match="or the key is another object's"):
        opened(sealed(b"x"), key=bytes(32))


def test_without_close_nothing_opens(opened):
    out = bytearray()
    writer = age.PayloadWriter(out.extend, KEY)
    writer.write(pattern(40 * CHUNK))
    writer.__exit__(RuntimeError, RuntimeError("the producer failed"), None)
    assert out
    with pytest.raises(IntegrityError):
        opened(bytes(out))
    with pytest.raises(UsageError, match="found it closed or failed"):
        writer.write(b"x")


@pytest.mark.parametrize("size", [CHUNK, 100 * CHUNK])
def test_a_sink_that_fails_shuts_the_writer(size):
    def full(_):
        raise SpaceExhausted("no space")

    def use(writer):
        writer.write(bytes(size))
        writer.close()

    writer = age.PayloadWriter(full, KEY)
    with pytest.raises(SpaceExhausted):
        use(writer)
    with pytest.raises(UsageError, match="found it closed or failed"):
        writer.write(b"x")
    writer.close()


def test_memory_does_not_grow_with_the_file():
    block = bytes(CHUNK * 4)
    tracemalloc.start()
    try:
        writer = age.PayloadWriter(lambda _: None, KEY)
        writer.write(block)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):  # 25 MiB
            writer.write(block)
        writer.close()
        assert tracemalloc.get_traced_memory()[1] - before < 2 * CHUNK
    finally:
        tracemalloc.stop()


def test_a_full_disk_is_said_in_our_words():
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(SpaceExhausted, match="expected room for 3 more bytes, found none") as caught:
            age.descriptor_sink(fd)(memoryview(b"abc"))
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ENOSPC
    finally:
        os.close(fd)


def test_a_closed_descriptor_is_not_mistaken_for_a_full_disk():
    with pytest.raises(OSError, match="Bad file descriptor"):
        age.descriptor_sink(-1)(memoryview(b"abc"))


def test_a_wiped_reader_holds_no_plaintext_and_still_reads(opened):
    reader = opened(sealed(b"secret"))
    assert reader.read(1) == b"s"
    reader.wipe()
    assert bytes(reader._held) == bytes(CHUNK)
    assert reader.read() == b"ecret"


@pytest.mark.parametrize("damage", [0, 1])
def test_a_stream_leaves_no_plaintext_in_its_buffers_whether_it_opens_or_fails(monkeypatch, damage):
    lanes = chunk.lanes_for(KEY)
    monkeypatch.setattr(stream, "lanes_for", lambda _: lanes)
    data = bytearray(sealed(b"secret" * (10 * CHUNK)))
    data[-1] ^= damage
    out = bytearray()
    with pytest.raises(IntegrityError) if damage else contextlib.nullcontext():
        stream.decrypt_stream(io.BytesIO(data).readinto, KEY, out.extend)
    assert damage or out == b"secret" * (10 * CHUNK)
    assert not any(bytes(buffer).strip(b"\0") for lane in lanes for buffer in (lane.inward, lane.outward))


def test_a_nonce_of_another_size_is_refused():
    with pytest.raises(IntegrityError, match="expected a nonce of 16 bytes, found 3"):
        age.payload_key(bytes(16), b"abc")
