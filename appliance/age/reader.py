"""Seekable reads of a sealed payload: any range, straight into the caller's buffer, without the rest.

Guarantees: no byte is handed out before its chunk's tag fits, and none at all before the *final* chunk was
verified, so a truncated, extended or spliced payload is refused when it is opened; a read that fails leaves
zeros. Source: c2sp.org/age, "Payload": seeking.
"""

from __future__ import annotations

import io
import os

from appliance.age.chunk import BATCH, CHUNK_SIZE, SEALED_SIZE, Lane, lanes_for, plain_size
from appliance.age.lanes import numbers, side_by_side
from appliance.errors import IntegrityError, UsageError


class PayloadReader(io.RawIOBase):
    """Reads a sealed payload of a file from any position, in place, verifying every chunk.

    `offset` is where the first chunk begins (after the nonce), `length` the bytes of all chunks. The
    descriptor stays the caller's. `read` and `readinto` return short only at the end. Raises IntegrityError.
    One caller at a time: neighbouring reads share a chunk that is kept.
    """

    def __init__(self, fd: int, key: bytes | bytearray, offset: int, length: int) -> None:
        super().__init__()
        self._fd = fd
        self._lanes = lanes_for(key)
        self._offset = offset
        self._length = length
        self._count = max(1, -(-length // SEALED_SIZE))
        final_size = plain_size(self._count - 1, length - (self._count - 1) * SEALED_SIZE)
        self.size = (self._count - 1) * CHUNK_SIZE + final_size
        """Plaintext bytes in all."""
        self._at = 0
        self._sealed = memoryview(bytearray(SEALED_SIZE))  # of one chunk: a lane's buffer costs more to get
        self._held = memoryview(bytearray(CHUNK_SIZE))
        self._held_index = -1
        self._hold(self._count - 1)  # before any position is trusted: the end is where it claims to be

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the plaintext position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a plaintext position; beyond the end reads nothing. Raises UsageError before the start."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise UsageError(f"payload: expected a position of 0 or more, found {offset} from {whence}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # no Buffer type in 3.11
        """Fill the buffer with plaintext from where the reader stands; returns the bytes read."""
        out = memoryview(buffer).cast("B")
        wanted = max(0, min(len(out), self.size - self._at))
        if wanted:
            self.open_into(out[:wanted], self._at)
        self._at += wanted
        return wanted

    def open_into(self, buffer: bytearray | memoryview, offset: int) -> None:
        """Fill the whole buffer, which the caller owns, with the plaintext that begins at byte `offset`.

        Whole chunks are decrypted where they are to lie, on all cores; the ends of a range that share a chunk
        with others go through one that is kept, so neighbours read in turn decrypt it once. Raises
        IntegrityError, then with zeros in the buffer, and UsageError beyond the end.
        """
        out = memoryview(buffer).cast("B")
        if not 0 <= offset <= self.size - len(out):
            raise UsageError(
                f"payload: expected a range within {self.size} bytes, found {len(out)} bytes from {offset}"
            )
        try:
            done = 0
            while done < len(out):
                done += self._open_some(out[done:], offset + done)
        except BaseException:
            _clear(out)
            raise

    def wipe(self) -> None:
        """Overwrite the plaintext held between reads."""
        self._held[:] = bytes(CHUNK_SIZE)
        self._held_index = -1

    def _open_some(self, out: memoryview, offset: int) -> int:
        """Fill the beginning of `out` up to the next chunk, or with all whole chunks that it has room for."""
        index, within = divmod(offset, CHUNK_SIZE)
        whole = self._whole_chunks(index, len(out)) if within == 0 else 0
        if whole and not (whole == 1 and index == self._held_index):
            size = self._plain_end(index + whole) - offset
            self._open_whole(index, whole, out[:size])
        else:
            self._hold(index)
            size = min(len(out), self._plain_end(index + 1) - offset)
            out[:size] = self._held[within : within + size]
        return size

    def _whole_chunks(self, index: int, room: int) -> int:
        """Return how many chunks from `index` fit entirely into `room` bytes."""
        if room >= self.size - index * CHUNK_SIZE:
            return self._count - index
        return room // CHUNK_SIZE

    def _open_whole(self, index: int, count: int, out: memoryview) -> None:
        """Decrypt `count` chunks from `index` into `out`, by batches, side by side."""

        def batch(lane: Lane, number: int) -> None:
            first = number * BATCH
            chunks = min(BATCH, count - first)
            self._decrypt(lane, index + first, chunks, lane.inward, out[first * CHUNK_SIZE :])

        batches = -(-count // BATCH)
        side_by_side(self._lanes[:batches], numbers(batches), batch)

    def _hold(self, index: int) -> None:
        if self._held_index != index:
            self._held_index = -1
            self._decrypt(self._lanes[0], index, 1, self._sealed, self._held)
            self._held_index = index

    def _decrypt(self, lane: Lane, index: int, count: int, room: memoryview, out: memoryview) -> None:
        """Read `count` chunks from `index` into `room` and open them into the beginning of `out`."""
        end = min((index + count) * SEALED_SIZE, self._length)
        sealed = room[: end - index * SEALED_SIZE]
        read_at(self._fd, sealed, self._offset + index * SEALED_SIZE)
        lane.open(index, sealed, out, final=index + count == self._count)

    def _plain_end(self, index: int) -> int:
        """Return where the plaintext before chunk `index` ends."""
        return min(index * CHUNK_SIZE, self.size)


def read_at(fd: int, view: memoryview, start: int) -> None:
    """Fill the view from byte `start` of a file; raises IntegrityError where it ends before."""
    done = 0
    while done < len(view):
        got = os.preadv(fd, [view[done:]], start + done)
        if got == 0:
            raise IntegrityError(
                f"payload: expected bytes up to {start + len(view)}, found the end at {start + done}"
            )
        done += got


def _clear(out: memoryview) -> None:
    """Overwrite with zeros, a chunk at a time: the buffer may be as large as memory."""
    zeros = bytes(CHUNK_SIZE)
    for at in range(0, len(out), CHUNK_SIZE):
        piece = out[at : at + CHUNK_SIZE]
        piece[:] = zeros[: len(piece)]
