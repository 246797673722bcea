"""Text a slice at a time, from wherever it lies: sealed, where a slice is opened as it is needed, or held."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.training.buffers import Opener

BLOCK_BYTES = 1 << 20  # tuning: a pass over a corpus holds this much of it at a time


class HeldBytes:
    """Bytes in memory, for whoever has no vault."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)
        self.size = self._data.nbytes

    def open_into(self, buffer: memoryview, offset: int, /) -> None:
        """Copy the bytes that begin at `offset`."""
        buffer[:] = self._data[offset : offset + len(buffer)]


def read_at(source: Opener, offset: int, count: int) -> bytes:
    """Return bytes [offset, offset + count), which lie within the source."""
    data = bytearray(count)
    if count:
        source.open_into(memoryview(data), offset)
    return bytes(data)


def blocks(source: Opener) -> Iterator[bytes]:
    """Yield a source in order, a block at a time."""
    for offset in range(0, source.size, BLOCK_BYTES):
        yield read_at(source, offset, min(BLOCK_BYTES, source.size - offset))
