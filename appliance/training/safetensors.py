"""The safetensors format: tensors behind a JSON header of names, types, shapes and offsets.

A file is 8 bytes (little-endian length of the header), the header, and the data. Guarantees: `parse_header`
accepts only headers whose tensors lie one after another, without gap or overlap, each as long as its shape
says, under bounded limits; `write` copies no tensor; equal tensors and metadata give equal bytes. What lies
behind a header is read by `tensorfile`. Source: the format's specification (safetensors 0.4, "Format"), with
stricter limits on names and on the size of the header.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused
from appliance.training.buffers import Sealer
from kernels.cuda.array import DeviceArray

MAX_HEADER_BYTES = 4 * 1024 * 1024  # tuning: room for 30,000 tensors; the format itself allows 100 MB
MAX_NAME_CHARACTERS = 256
MAX_DIMENSIONS = 8
PREFIX = struct.Struct("<Q")
_METADATA = "__metadata__"
_KEYS = frozenset({"dtype", "shape", "data_offsets"})
_SIZE_LIMIT = 2**63
_ALIGNMENT = 8

# Sizes in bytes of the types of the specification that can occur here.
ITEM_BYTES: Mapping[str, int] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
# Of these NumPy holds all but BF16.
_NUMPY: Mapping[str, str] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(code): name for name, code in _NUMPY.items()}

Array = npt.NDArray[Any]


class TensorInfo(NamedTuple):
    """One tensor: type, shape, and its bytes [start, end) counted from the end of the header.

    A tuple, because a header is parsed before its first tensor is read, and a dataclass costs twice the time.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: tensors in the order of their data, and free-form metadata."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size_bytes: int  # of prefix and header together
    data_bytes: int  # of the data that must follow

    @property
    def total_bytes(self) -> int:
        """Length of the whole file."""
        return self.size_bytes + self.data_bytes


# --- reading ---------------------------------------------------------------------------------------------


def read_header(data: bytes | bytearray | memoryview, size_bytes: int) -> Header:
    """Check the header at the start of `data`, the beginning of a file of `size_bytes`.

    Raises `ContentRefused` when it is malformed or does not describe exactly that many bytes.
    """
    length = header_bytes(data[: PREFIX.size])
    if len(data) < PREFIX.size + length:
        found = len(data) - PREFIX.size
        raise ContentRefused(f"safetensors: expected a header of {length} bytes, found {found}: cut off")
    header = parse_header(bytes(data[PREFIX.size : PREFIX.size + length]))
    if header.total_bytes != size_bytes:
        raise ContentRefused(
            f"safetensors: expected {header.total_bytes} bytes as the header says, found {size_bytes}"
        )
    return header


def header_bytes(prefix: bytes | bytearray | memoryview) -> int:
    """Length of the header that follows the 8 bytes of `prefix`; raise `ContentRefused` beyond the limit."""
    if len(prefix) != PREFIX.size:
        raise ContentRefused(f"safetensors: expected {PREFIX.size} bytes of length, found {len(prefix)}")
    size: int = PREFIX.unpack(prefix)[0]
    if not 2 <= size <= MAX_HEADER_BYTES:
        raise ContentRefused(f"safetensors: expected a header of 2 to {MAX_HEADER_BYTES} bytes, found {size}")
    return size


def parse_header(text: bytes) -> Header:
    """Check the JSON of a header; raise `ContentRefused` naming tensor, expected and found."""
    if len(text) > MAX_HEADER_BYTES:
        raise ContentRefused(
            f"safetensors: expected at most {MAX_HEADER_BYTES} bytes of header, found {len(text)}"
        )
    try:
        document = json.loads(
            text.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or a number of thousands of digits
        raise ContentRefused(
            "safetensors: expected a header of JSON in UTF-8, found a syntax error"
        ) from error
    if not text.startswith(b"{") or not isinstance(document, dict):
        raise ContentRefused("safetensors: expected the header to be one JSON object")
    metadata = _metadata(document.pop(_METADATA, {}))
    tensors = {name: _tensor(name, entry) for name, entry in document.items()}
    ordered = {name: tensors[name] for name in sorted(tensors, key=lambda name: tensors[name][2:])}
    end = 0
    for name, info in ordered.items():
        if info.start != end:
            raise ContentRefused(
                f"safetensors: tensor {name!r}: expected data to start at {end}, right after the tensor "
                f"before it, found {info.start}: tensors overlap or leave a gap"
            )
        end = info.end
    return Header(ordered, metadata, PREFIX.size + len(text), end)


def numpy_type(name: str, info: TensorInfo) -> np.dtype[Any]:
    """Return the NumPy type of a tensor; raise `ContentRefused` where there is none."""
    if info.dtype not in _NUMPY:
        raise ContentRefused(f"safetensors: tensor {name!r}: expected a type NumPy has, found {info.dtype}")
    return np.dtype(_NUMPY[info.dtype])


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ContentRefused("safetensors: expected each name once in the header, found one twice")
    return document


def _no_constant(name: str) -> None:
    raise ContentRefused(f"safetensors: expected JSON in the header, found the constant {name}")


def _metadata(found: object) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ContentRefused(f"safetensors: expected {_METADATA} to map strings to strings")
    return found


def _tensor(name: str, entry: object) -> TensorInfo:
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise ContentRefused(
            f"safetensors: expected names of 1 to {MAX_NAME_CHARACTERS} printable characters, "
            f"found {name[:80]!r}"
        )
    if not isinstance(entry, dict) or entry.keys() != _KEYS:
        raise ContentRefused(f"safetensors: tensor {name!r}: expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ContentRefused(
            f"safetensors: tensor {name!r}: expected a dtype of {', '.join(ITEM_BYTES)}, found {dtype!r:.40}"
        )
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise ContentRefused(
            f"safetensors: tensor {name!r}: expected a shape of at most {MAX_DIMENSIONS} sizes, "
            f"found {shape!r:.80}"
        )
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ContentRefused(
            f"safetensors: tensor {name!r}: expected two data_offsets, found {offsets!r:.80}"
        )
    needed = math.prod(shape) * ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != needed:
        raise ContentRefused(
            f"safetensors: tensor {name!r}: expected {needed} bytes for {dtype} {tuple(shape)}, found "
            f"{offsets[1] - offsets[0]}"
        )
    if not needed and math.prod(filter(None, shape)) * ITEM_BYTES[dtype] >= _SIZE_LIMIT:
        raise ContentRefused(
            f"safetensors: tensor {name!r}: expected sizes beside a zero that an array can have, "
            f"found {shape!r:.80}"
        )
    return TensorInfo(dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(found: object) -> bool:
    """Whether `found` is a list of integers in [0, 2⁶³)."""
    if not isinstance(found, list):
        return False
    for item in found:  # noqa: SIM110  a generator takes twice as long, on the way to every first tensor
        if type(item) is not int or not 0 <= item < _SIZE_LIMIT:
            return False
    return True


# --- writing ---------------------------------------------------------------------------------------------


def encode_header(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """Prefix and header for `tensors`, widest type first and then by name, padded so that data is aligned."""
    document: dict[str, object] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    start = 0
    for name in _order(tensors):
        tensor = tensors[name]
        end = start + tensor.nbytes
        document[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _ALIGNMENT)
    parse_header(text)  # what we write, we accept
    return PREFIX.pack(len(text)) + text


def size_of(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> int:
    """Bytes that `write` will write."""
    return len(encode_header(tensors, metadata)) + sum(tensor.nbytes for tensor in tensors.values())


def write(sealer: Sealer, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> int:
    """Have the file sealed piece by piece, tensors without a copy; return its length in bytes."""
    header = encode_header(tensors, metadata)
    sealer.seal_from(memoryview(header))
    total = len(header)
    for name in _order(tensors):
        tensor = tensors[name]
        if tensor.nbytes:
            sealer.seal_from(_bytes_of(tensor))
        total += tensor.nbytes
    return total


def _order(tensors: Mapping[str, Array]) -> list[str]:
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


def _bytes_of(tensor: Array | DeviceArray) -> memoryview | DeviceArray:
    """View an array as bytes, little-endian as the format demands, where it lies."""
    if isinstance(tensor, DeviceArray):
        return tensor.bytes()
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
