"""Weights on the grid of bf16, still stored as float32: the sixteen low bits of every number are zero.

Guarantees to officers who released a rounded model: the second reader, which shares nothing with the worker
that rounds, refuses a file in which any of those bits is set, or which holds another type than float32.
Not-a-number becomes the one quiet value, because its bits are free too. Rounding is to the nearest, ties to
even (IEEE 754).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from appliance.bundle.stream import Readable
from appliance.errors import ContentRefused
from appliance.training.safetensors import PREFIX, header_bytes, read_header

WORD_BYTES = 4
BLOCK_BYTES = 1 << 18  # tuning: as the stream that reads from here
_NAN = np.uint32(0x7FC0_0000)
_INFINITY = np.uint32(0x7F80_0000)
_MAGNITUDE = np.uint32(0x7FFF_FFFF)
_HIGH = np.uint32(0xFFFF_0000)
_LOW = np.uint32(0x0000_FFFF)


def round_words(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Return float32 bit patterns rounded to bf16, of the same shape."""
    odd = (words >> np.uint32(16)) & np.uint32(1)
    rounded = (words + np.uint32(0x7FFF) + odd) & _HIGH
    rounded[(words & _MAGNITUDE) > _INFINITY] = _NAN
    return rounded


class Rounded:
    """A safetensors file as it is read, its header as it was and its numbers rounded."""

    def __init__(self, source: Readable, size: int) -> None:
        """Read and check the header; raises ContentRefused for another type than float32."""
        self._source = source
        head = _exactly(source, PREFIX.size)
        head += _exactly(source, header_bytes(head))
        _demand_float32(head, size)
        self._ready = memoryview(head)

    def read(self, size: int, /) -> memoryview:
        """Return up to `size` bytes, none at the end."""
        if not self._ready:
            block = _exactly(self._source, BLOCK_BYTES)
            self._ready = memoryview(round_words(np.frombuffer(block, "<u4")).tobytes())
        given, self._ready = self._ready[:size], self._ready[size:]
        return given


class RoundedChecker:
    """Looks at a safetensors file as it streams past and refuses a number that is not rounded."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._head = bytearray()
        self._rest = b""
        self._in_header = True

    def feed(self, data: memoryview) -> None:
        """Take the next bytes; raises ContentRefused."""
        if not self._in_header:
            self._words(bytes(data))
            return
        self._head += data
        if len(self._head) < PREFIX.size:
            return
        end = PREFIX.size + header_bytes(self._head[: PREFIX.size])
        if len(self._head) < end:
            return
        _demand_float32(self._head[:end], self._size)
        self._in_header = False
        self._words(bytes(self._head[end:]))

    def _words(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) // WORD_BYTES * WORD_BYTES
        self._rest = data[whole:]
        words = np.frombuffer(data[:whole], "<u4")
        if np.any(words & _LOW) or np.any((words & _MAGNITUDE > _INFINITY) & (words != _NAN)):
            raise ContentRefused(
                "model.safetensors: expected every number rounded to bf16, found one that is not"
            )


def _demand_float32(head: bytearray, size: int) -> None:
    for name, info in read_header(head, size).tensors.items():
        if info.dtype != "F32":
            raise ContentRefused(
                f"tensor {name}: expected F32, which can be rounded to bf16, found {info.dtype}"
            )


def _exactly(source: Readable, size: int) -> bytearray:
    """Read `size` bytes, fewer only at the end."""
    found = bytearray()
    while len(found) < size and (data := source.read(size - len(found))):
        found += data
    return found
