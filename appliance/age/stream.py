"""The payload of an age file as a stream: chunks in order, the last one marked.

Guarantee: what a writer did not close does not open, and a chunk altered, cut or moved does not either.
Memory is constant whatever the size. Source: c2sp.org/age, "Payload".
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from appliance.age.chunk import BATCH, CHUNK_SIZE, SEALED_SIZE, Buffer, Lane, lanes_for
from appliance.age.lanes import numbers, side_by_side
from appliance.errors import SpaceExhausted, UsageError

WRITE_SIZE = 256 * 1024
"""Bytes given to a sink at a time. By writes of 64 KiB, 256 KiB and 1 MiB a file of 1 GiB took 0.39, 0.28 and
0.75 s: for large ones the kernel takes pages of 2 MiB, which a virtual machine may have to get first.
"""

_SEALED_BATCH = BATCH * SEALED_SIZE
_PLAIN_BATCH = BATCH * CHUNK_SIZE

ReadInto = Callable[[memoryview], int | None]
Sink = Callable[[memoryview], object]


def descriptor_sink(fd: int) -> Callable[[memoryview], None]:
    """Return a `write` that puts all bytes on a descriptor; raises SpaceExhausted when the disk is full."""

    def write_all(data: memoryview) -> None:
        done = 0
        while done < len(data):
            try:
                done += os.write(fd, data[done:])
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                    raise SpaceExhausted(
                        f"no space: expected room for {len(data) - done} more bytes, found none; free some "
                        "and start again"
                    ) from error
                raise

    return write_all


def _by_pieces(write: Sink) -> Callable[[memoryview], None]:
    """Return a sink that hands on what it gets by pieces of `WRITE_SIZE`."""

    def write_pieces(data: memoryview) -> None:
        for at in range(0, len(data), WRITE_SIZE):
            write(data[at : at + WRITE_SIZE])

    return write_pieces


class PayloadWriter:
    """Seals a stream of bytes into chunks; `close` marks the last one, and without it nothing opens.

    `write` seals straight from the caller's buffer, a large one on all cores. The sink must take all the
    bytes given to it before it returns; the view is reused afterwards, and calls may come from other threads,
    one at a time and in order. The caller writes header and nonce. Used as a context manager it closes on
    success only, so that a failed producer leaves an unreadable payload and not a short one.
    """

    __slots__ = ("_chunks", "_filled", "_lanes", "_open", "_pending", "_used", "_write", "size")

    def __init__(self, write: Sink, key: bytes | bytearray) -> None:
        self._write = _by_pieces(write)
        self._lanes = lanes_for(key)
        self._pending = memoryview(bytearray(CHUNK_SIZE))
        self._filled = 0
        self._used = 0  # bytes in the first lane's buffer that the sink has not been given
        self._chunks = 0
        self._open = True
        self.size = 0
        """Plaintext bytes taken so far."""

    def write(self, data: Buffer) -> int:
        """Take plaintext; returns its size. Raises what the sink raises, and then stays closed."""
        if not self._open:
            raise UsageError("payload writer: expected it open, found it closed or failed")
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            if self._filled == CHUNK_SIZE:  # more follows, so what is held was not the final chunk
                self._seal(self._pending, final=False)
                self._filled = 0
            if self._filled == 0 and len(view) - at > CHUNK_SIZE:
                size = (len(view) - at - 1) // CHUNK_SIZE * CHUNK_SIZE
                self._seal_whole(view[at : at + size])
                at += size
                continue
            taken = min(CHUNK_SIZE - self._filled, len(view) - at)
            self._pending[self._filled : self._filled + taken] = view[at : at + taken]
            self._filled += taken
            at += taken
        self.size += len(view)
        return len(view)

    def close(self) -> None:
        """Seal what is held as the final chunk and hand everything to the sink."""
        if not self._open:
            return
        self._seal(self._pending[: self._filled], final=True)
        self._flush()
        self._open = False
        self._pending[:] = bytes(CHUNK_SIZE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        self._open = False

    def _seal(self, plain: memoryview, *, final: bool) -> None:
        """Seal one chunk into the first lane's buffer, which goes to the sink when it is full."""
        if self._used > _SEALED_BATCH - SEALED_SIZE:
            self._flush()
        lane = self._lanes[0]
        self._used += lane.seal(self._chunks, plain, lane.outward[self._used :], final=final)
        self._chunks += 1

    def _seal_whole(self, plain: memoryview) -> None:
        """Seal whole chunks, none of them the final one: few like any other, many side by side."""
        count = len(plain) // CHUNK_SIZE
        if count <= BATCH:
            for i in range(count):
                self._seal(plain[i * CHUNK_SIZE : (i + 1) * CHUNK_SIZE], final=False)
            return
        self._flush()
        first = self._chunks

        def batch(lane: Lane, number: int) -> memoryview:
            piece = plain[number * _PLAIN_BATCH : (number + 1) * _PLAIN_BATCH]
            out = lane.outward
            return out[: lane.seal(first + number * BATCH, piece, out, final=False)]

        self._open = False  # a sink that fails leaves the writer shut
        batches = -(-count // BATCH)
        side_by_side(self._lanes[:batches], numbers(batches), batch, self._write)
        self._open = True
        self._chunks += count

    def _flush(self) -> None:
        self._open, was_open = False, self._open  # a sink that fails leaves the writer shut
        if self._used:
            self._write(self._lanes[0].outward[: self._used])
        self._open = was_open
        self._used = 0


def encrypt_stream(readinto: ReadInto, key: bytes | bytearray, write: Sink) -> int:
    """Seal a whole stream, on all cores; returns the plaintext size. `write` is as a PayloadWriter's sink."""
    lanes = lanes_for(key)
    source = _Batches(readinto, _PLAIN_BATCH)
    write_pieces = _by_pieces(write)

    def seal(lane: Lane, batch: _Batch) -> memoryview:
        out = lane.outward
        return out[: lane.seal(batch.number * BATCH, batch.data, out, final=batch.last)]

    try:
        side_by_side(lanes, source.take, seal, write_pieces)
    finally:
        _wipe(lanes)
    return source.total


def decrypt_stream(readinto: ReadInto, key: bytes | bytearray, write: Sink) -> int:
    """Open chunks from a stream that cannot seek; returns the plaintext size. Raises IntegrityError.

    A batch is released once the tags of its chunks fit, so a cut is known only at the end: on an error the
    caller discards what was written. `write` is as a PayloadWriter's sink.
    """
    lanes = lanes_for(key)
    write_pieces = _by_pieces(write)
    total = 0

    def open_batch(lane: Lane, batch: _Batch) -> memoryview:
        out = lane.outward
        return out[: lane.open(batch.number * BATCH, batch.data, out, final=batch.last)]

    def release(plain: memoryview) -> None:
        nonlocal total
        write_pieces(plain)
        total += len(plain)

    try:
        side_by_side(lanes, _Batches(readinto, _SEALED_BATCH).take, open_batch, release)
    finally:
        _wipe(lanes)
    return total


def _wipe(lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        lane.wipe()


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch of a stream, in the buffer of the lane that took it."""

    number: int
    data: memoryview
    last: bool


class _Batches:
    """Cuts a stream into batches. One byte more than a batch is read, to know whether it is the last."""

    __slots__ = ("_ahead", "_number", "_readinto", "_size", "total")

    def __init__(self, readinto: ReadInto, size: int) -> None:
        self.total = 0
        """Bytes taken so far."""
        self._readinto = readinto
        self._size = size
        self._number = 0
        self._ahead: bytes | None = b""  # what was read beyond the batch before; None after the last batch

    def take(self, lane: Lane) -> _Batch | None:
        """Read the next batch into the lane's buffer, None after the last. An empty stream is one batch."""
        if self._ahead is None:
            return None
        room = lane.inward[: self._size + 1]
        room[: len(self._ahead)] = self._ahead
        filled = len(self._ahead) + _fill(self._readinto, room[len(self._ahead) :])
        last = filled <= self._size
        self._ahead = None if last else bytes(room[self._size :])
        batch = _Batch(self._number, room[: min(filled, self._size)], last)
        self._number += 1
        self.total += len(batch.data)
        return batch


def _fill(readinto: ReadInto, view: memoryview) -> int:
    """Read until the view is full or the stream ends, so a short read is not mistaken for the end."""
    done = 0
    while done < len(view):
        got = readinto(view[done:])
        if not got:
            break
        done += got
    return done
