"""Tensors of a sealed safetensors file, opened one at a time into memory that the caller owns.

Guarantees: the header is checked whole and against the file's size before any tensor is read; a tensor or a
part of one is opened without the rest; a buffer is filled to its last byte or an error is raised.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from appliance.errors import ContentRefused, UsageError
from appliance.training.buffers import Opener
from appliance.training.safetensors import (
    ITEM_BYTES,
    PREFIX,
    Array,
    Header,
    TensorInfo,
    header_bytes,
    numpy_type,
    read_header,
)
from kernels.cuda.array import DeviceArray

Buffer = bytearray | memoryview | Array | DeviceArray
Region = Sequence[slice]
"""One slice an axis, each with step 1; axes that are left out are taken whole."""


class TensorFile:
    """A checked header, and the sealed data behind it. Errors of the opener pass through."""

    __slots__ = ("_source", "header")

    def __init__(self, source: Opener) -> None:
        """Read and check the header; raises `ContentRefused` when it is malformed or of another file."""
        head = bytearray(min(PREFIX.size, source.size))
        source.open_into(memoryview(head), 0)
        length = min(header_bytes(head), source.size - PREFIX.size)
        head += bytes(length)
        source.open_into(memoryview(head)[PREFIX.size :], PREFIX.size)
        self.header: Header = read_header(head, source.size)
        self._source = source

    def open_into(self, name: str, buffer: Buffer) -> None:
        """Open one tensor into a C-contiguous buffer of exactly its bytes; raises `UsageError` otherwise."""
        info = self._info(name)
        view = _bytes_of(buffer, info.end - info.start, name)
        if len(view):
            self._source.open_into(view, self.header.size_bytes + info.start)

    def open_slice_into(self, name: str, region: Region, buffer: Buffer) -> None:
        """Open a part of one tensor into a C-contiguous buffer of exactly the part's bytes.

        Only chunks that hold some of it are decrypted, each once as long as the part's runs ascend in the
        file, which they do. Raises `UsageError` for a region or buffer that does not fit.
        """
        info = self._info(name)
        spans = _spans(info.shape, region, name)
        item = ITEM_BYTES[info.dtype]
        view = _bytes_of(buffer, math.prod(stop - start for start, stop in spans) * item, name)
        done = 0
        for first, count in _runs(info.shape, spans) if len(view) else ():
            size = count * item
            start = self.header.size_bytes + info.start + first * item
            self._source.open_into(view[done : done + size], start)
            done += size

    def load(self) -> dict[str, Array]:
        """Open all tensors into new arrays, in the order of the file.

        Raises `ContentRefused` for a type that NumPy lacks, before anything is allocated.
        """
        types = {name: numpy_type(name, info) for name, info in self.header.tensors.items()}
        tensors: dict[str, Array] = {}
        for name, info in self.header.tensors.items():
            tensors[name] = np.empty(info.shape, types[name])
            self.open_into(name, tensors[name])
        return tensors

    def _info(self, name: str) -> TensorInfo:
        try:
            return self.header.tensors[name]
        except KeyError as error:
            raise ContentRefused(
                f"safetensors: expected a tensor {name[:80]!r}, found none among {len(self.header.tensors)}"
            ) from error


def _bytes_of(buffer: Buffer, size: int, name: str) -> Any:
    """View a caller's buffer as bytes, on the host or on a device."""
    if isinstance(buffer, DeviceArray):
        if buffer.nbytes != size:
            raise UsageError(
                f"tensor {name[:80]!r}: expected {size} bytes on the device, found {buffer.nbytes}"
            )
        return buffer.bytes()
    view = memoryview(buffer.data if isinstance(buffer, np.ndarray) else buffer)
    if view.readonly or not view.c_contiguous or view.nbytes != size:
        state = "read-only" if view.readonly else "contiguous" if view.c_contiguous else "scattered"
        raise UsageError(
            f"tensor {name[:80]!r}: expected a writable C-contiguous buffer of {size} bytes, found a "
            f"{state} one of {view.nbytes}"
        )
    return view.cast("B") if size else memoryview(b"")


def _spans(shape: tuple[int, ...], region: Region, name: str) -> list[tuple[int, int]]:
    """Return [start, stop) of every axis; raises `UsageError` outside the tensor and for other steps."""
    spans = [(0, size) for size in shape]
    fits = len(region) <= len(shape)
    for axis, part in enumerate(region[: len(shape)]):
        start, stop = part.start or 0, shape[axis] if part.stop is None else part.stop
        fits = fits and 0 <= start <= stop <= shape[axis] and part.step in {None, 1}
        spans[axis] = start, stop
    if not fits:
        raise UsageError(
            f"tensor {name[:80]!r}: expected slices within {shape} of step 1, found {list(region)!r:.200}"
        )
    return spans


def _runs(shape: tuple[int, ...], spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield (first element, elements) of each stretch of a region that lies in one piece, ascending.

    Innermost axes that are taken whole join the stretch of the axis before them.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axis = len(shape)
    while axis and spans[axis - 1] == (0, shape[axis - 1]):
        axis -= 1
    if axis == 0:
        yield 0, math.prod(shape)
        return
    start, stop = spans[axis - 1]
    stride = strides[axis - 1]
    for outer in itertools.product(*(range(*span) for span in spans[: axis - 1])):
        at = sum(index * step for index, step in zip(outer, strides, strict=False))
        yield at + start * stride, (stop - start) * stride
