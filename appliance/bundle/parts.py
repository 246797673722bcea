"""Parts: the plaintext stream cut into whole age files, each small enough for any file system.

Guarantees to the writer's owner: the number and plaintext size of parts is known before the first is
written, each has its own key, is durable when it is reported, and its hash covers header, nonce and payload.
To the importer: a part is copied off its medium exactly once, and the bytes that were hashed are the bytes
that are opened. Source: docs/formats/transfer-bundle.md; the payload is age v1 (C2SP age), section Payload.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.age import PayloadWriter
from appliance.age.lanes import same, side_by_side
from appliance.bundle.folder import BundleFolder, write_all
from appliance.bundle.manifest import MAX_PARTS, PartFile, part_name
from appliance.bundle.medium import medium_error
from appliance.errors import ContentRefused, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Far under FAT32's 4 GiB, and little to copy again when one is damaged.
PART_BYTES = 256 << 20

_COPY_BYTES = 1 << 20
_FLUSH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class PartOutput:
    """Where one part goes: `fd` is placed after `prefix` (header and nonce, already written)."""

    fd: int
    key: bytearray
    prefix: bytes


def part_sizes(plain_bytes: int, part_bytes: int = PART_BYTES) -> tuple[int, ...]:
    """Return the plaintext bytes of each part; raise ContentRefused if there would be too many."""
    count = -(-plain_bytes // part_bytes)
    if not 1 <= count <= MAX_PARTS:
        raise ContentRefused(
            f"expected 1 to {MAX_PARTS} parts, found {count}; pack fewer files in one bundle"
        )
    return (part_bytes,) * (count - 1) + (plain_bytes - part_bytes * (count - 1),)


class PartWriter:
    """Cuts a byte stream over parts; asks for each part's file and key when it begins.

    `next_part(index)` hands over one PartOutput; its descriptor is closed and its key overwritten here.
    Errors leave the current part unfinished. `kept` are the first parts, complete since an earlier try: their
    share of the stream passes by. `finished(parts)` is told of all complete parts whenever one is added.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        next_part: Callable[[int], PartOutput],
        kept: Sequence[PartFile] = (),
        finished: Callable[[Sequence[PartFile]], None] | None = None,
    ) -> None:
        self._sizes = sizes
        self._next_part = next_part
        self._finished = finished
        self._done: list[PartFile] = list(kept)
        self._passing = sum(sizes[: len(kept)])
        self._current: _OpenPart | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of the stream; raise IntegrityError if they are more than planned."""
        view = memoryview(data)
        passed = min(self._passing, len(view))
        self._passing -= passed
        view = view[passed:]
        while view:
            if self._current is None:
                self._current = self._begin()
            taken = self._current.write(view)
            view = view[taken:]
            if self._current.left == 0:
                self._done.append(self._current.finish())
                self._current = None
                if self._finished is not None:
                    self._finished(self._done)

    def close(self) -> tuple[PartFile, ...]:
        """Return the written parts; raise IntegrityError if bytes are still missing."""
        if self._current is not None or self._passing or len(self._done) != len(self._sizes):
            raise IntegrityError(
                f"expected {len(self._sizes)} whole parts, found {len(self._done)}; start again"
            )
        return tuple(self._done)

    def abandon(self) -> None:
        """Let go of a part that will not be finished."""
        if self._current is not None:
            self._current.abandon()
            self._current = None

    def _begin(self) -> _OpenPart:
        index = len(self._done)
        if index == len(self._sizes):
            raise IntegrityError(f"expected {sum(self._sizes)} bytes in all parts, found more; start again")
        return _OpenPart(part_name(index), self._sizes[index], self._next_part(index))


class _OpenPart:
    """The part being written; `left` counts the plaintext bytes still missing."""

    def __init__(self, name: str, size: int, output: PartOutput) -> None:
        self.left = size
        self._name = name
        self._output = output
        self._open = True
        self._digest = hashlib.sha256(output.prefix)
        self._file_bytes = len(output.prefix)
        self._payload = PayloadWriter(self._put, output.key)

    def write(self, data: memoryview) -> int:
        """Encrypt up to `left` bytes and return how many were taken."""
        data = data[: self.left]
        self._payload.write(data)
        self.left -= len(data)
        return len(data)

    def finish(self) -> PartFile:
        """Seal the last chunk and make the file durable."""
        try:
            self._payload.close()
            os.fsync(self._output.fd)
        except OSError as error:
            raise medium_error(error, self._name) from error
        finally:
            self.abandon()
        return PartFile(self._name, self._file_bytes, self._digest.hexdigest())

    def abandon(self) -> None:
        """Close the file and overwrite the key; once is enough."""
        if self._open:
            self._open = False
            os.close(self._output.fd)
            self._output.key[:] = bytes(len(self._output.key))

    def _put(self, data: memoryview) -> None:
        before = self._file_bytes
        self._digest.update(data)
        self._file_bytes += len(data)
        write_all(self._output.fd, memoryview(data), self._name)
        if before // _FLUSH_BYTES != self._file_bytes // _FLUSH_BYTES:
            # The medium begins to write now, instead of when the part is complete.
            os.posix_fadvise(self._output.fd, 0, self._file_bytes, os.POSIX_FADV_DONTNEED)


def copy_part(source_fd: int, target_fd: int, size: int) -> tuple[int, str]:
    """Copy a part off its medium into quarantine, reading it once; return (bytes, SHA-256 in hex) as copied.

    At most `size` + 1 bytes are read: a file that is longer than declared is known by its count.
    """
    digest = hashlib.sha256()
    count = 0

    def take(block: memoryview) -> memoryview | None:
        nonlocal count
        try:
            got = os.readv(source_fd, [block[: size + 1 - count]])
        except OSError as error:
            raise medium_error(error, "a part on its medium") from error
        digest.update(block[:got])
        count += got
        return block[:got] if got else None

    def copy(block: memoryview) -> None:
        write_all(target_fd, block, "the quarantined part")

    lanes = 2 if size > _COPY_BYTES else 1  # one reads and hashes while the other writes
    side_by_side([memoryview(bytearray(_COPY_BYTES)) for _ in range(lanes)], take, same, copy)
    return count, digest.hexdigest()


def hash_part(folder: BundleFolder, part: PartFile) -> tuple[int, str]:
    """Return (bytes, SHA-256 in hex) of a file on its medium; reads at most one byte past its signed size."""
    source, nowhere = folder.open_file(part.name), os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return copy_part(source, nowhere, part.size)
    finally:
        os.close(source)
        os.close(nowhere)
