"""Seekable reads of a sealed payload: any range, straight into the caller's buffer, without the rest.

Guarantee: no byte is returned before its chunk's tag fits, and none at all before the *final* chunk was
verified, so a truncated, extended or spliced payload is refused when it is opened. Source: c2sp.org/age,
"Payload": seeking.
"""

from __future__ import annotations

import io
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from appliance.age.stream import BATCH, CHUNK_SIZE, SEALED_SIZE, TAG_SIZE, chunk_nonce
from appliance.errors import IntegrityError, UsageError


class PayloadReader(io.RawIOBase):
    """Reads a sealed payload of a file from any position, in place, verifying every chunk.

    `offset` is where the first chunk begins (after the nonce), `length` the bytes of all chunks. The
    descriptor stays the caller's. `read` and `readinto` return short only at the end. Raises IntegrityError.
    """

    def __init__(self, fd: int, key: bytes | bytearray, offset: int, length: int) -> None:
        super().__init__()
        self._fd = fd
        self._aead = ChaCha20Poly1305(key)
        self._offset = offset
        self._count = max(1, -(-length // SEALED_SIZE))
        self._final_size = length - (self._count - 1) * SEALED_SIZE - TAG_SIZE
        if length < TAG_SIZE or self._final_size < 0 or (self._final_size == 0 and self._count > 1):
            raise IntegrityError(
                f"payload: expected whole chunks and a final one, found {length} bytes in all"
            )
        self.size = (self._count - 1) * CHUNK_SIZE + self._final_size
        """Plaintext bytes in all."""
        self._at = 0
        self._sealed = memoryview(bytearray(BATCH * SEALED_SIZE))
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
        """Fill the buffer with plaintext straight from the chunks; returns the bytes read."""
        out = memoryview(buffer).cast("B")
        wanted = max(0, min(len(out), self.size - self._at))
        done = 0
        while done < wanted:
            index, within = divmod(self._at, CHUNK_SIZE)
            whole = self._whole_chunks(index, wanted - done) if within == 0 else 0
            if whole:
                taken = self._decrypt(index, whole, out[done:])
            else:
                self._hold(index)
                taken = min(wanted - done, self._plain_size(index) - within)
                out[done : done + taken] = self._held[within : within + taken]
            self._at += taken
            done += taken
        return done

    def wipe(self) -> None:
        """Overwrite the plaintext held between reads."""
        self._held[:] = bytes(CHUNK_SIZE)
        self._held_index = -1

    def _plain_size(self, index: int) -> int:
        return self._final_size if index == self._count - 1 else CHUNK_SIZE

    def _whole_chunks(self, index: int, room: int) -> int:
        """Return how many chunks from `index` fit entirely into `room` bytes, at most a batch."""
        whole = min(room // CHUNK_SIZE, BATCH, self._count - index)
        if (
            index + whole == self._count - 1
            and whole < BATCH
            and room - whole * CHUNK_SIZE >= self._final_size
        ):
            whole += 1
        return whole

    def _hold(self, index: int) -> None:
        if self._held_index != index:
            self._held_index = -1
            self._decrypt(index, 1, self._held)
            self._held_index = index

    def _decrypt(self, index: int, count: int, out: memoryview) -> int:
        """Decrypt `count` chunks from `index` into `out`; returns the plaintext bytes."""
        sealed = self._pread(
            index, (count - 1) * SEALED_SIZE + self._plain_size(index + count - 1) + TAG_SIZE
        )
        done = 0
        for i in range(count):
            size = self._plain_size(index + i)
            chunk = sealed[i * SEALED_SIZE : i * SEALED_SIZE + size + TAG_SIZE]
            plain = out[done : done + size]
            nonce = chunk_nonce(index + i, final=index + i == self._count - 1)
            try:
                self._aead.decrypt_into(nonce, chunk, None, plain)
            except InvalidTag as error:
                plain[:] = bytes(size)  # unauthenticated bytes never reach the caller
                raise IntegrityError(
                    f"payload: chunk {index + i} of {self._count} does not fit its tag; it was altered, cut "
                    "or moved, or the key is another object's"
                ) from error
            done += size
        return done

    def _pread(self, index: int, size: int) -> memoryview:
        view = self._sealed[:size]
        start = self._offset + index * SEALED_SIZE
        done = 0
        while done < size:
            got = os.preadv(self._fd, [view[done:]], start + done)
            if got == 0:
                raise IntegrityError(
                    f"payload: expected bytes up to {start + size}, found the end at {start + done}"
                )
            done += got
        return view
