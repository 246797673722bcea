"""Arrays on their way to a kernel: checked, then an address.

A kernel writes where it is told. So nothing here gives the address of an array that is not on the device, of
the shape that the others imply, row by row, and float32 or, where the table allows, bf16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.array import DeviceArray
from kernels.errors import ArrayRefused
from kernels.table import BFLOAT16

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
NONE = 0  # the address of no array


def held(array: Any) -> DeviceArray:
    """Return an array of this device; raises `ArrayRefused` for one of the host."""
    if not isinstance(array, DeviceArray):
        raise ArrayRefused(f"cuda backend: expected an array on the device, found {type(array).__name__}")
    return array


def half(array: Any) -> bool:
    """Whether elements are bf16; raises `ArrayRefused` on any dtype but this and float32."""
    dtype = held(array).dtype
    if dtype not in (FLOAT32, BFLOAT16):
        raise ArrayRefused(f"cuda backend: expected float32 or bf16, found {dtype}")
    return bool(dtype == BFLOAT16)


def at(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any] | None = FLOAT32) -> int:
    """Return the address of an array that has this shape and dtype (None: checked already)."""
    found = held(array)
    if found.shape != shape or (dtype is not None and found.dtype != dtype) or found.turned:
        wanted = "float32 or bf16" if dtype is None else dtype
        raise ArrayRefused(
            f"cuda backend: expected rows {shape} of {wanted}, found {found.shape} of {found.dtype}"
            f"{', turned' if found.turned else ''}"
        )
    return found.address


def maybe_at(array: Any, shape: tuple[int, ...], dtype: np.dtype[Any] | None = FLOAT32) -> int:
    """Address of an array of this shape and dtype, 0 for none."""
    return NONE if array is None else at(array, shape, dtype)


def rows_at(table: Any, rows: int, width: int) -> int:
    """Address of a float32 table of at least `rows` rows, 0 for none."""
    return NONE if table is None else at(table, (max(rows, len(table)), width))


def matrix_at(weight: Any, shape: tuple[int, int]) -> tuple[int, bool]:
    """Address of a float32 weight (I, O), and whether it lies as (O, I)."""
    found = held(weight)
    if found.turned:
        return at(found.T, shape[::-1]), True
    return at(found, shape), False


def packed_shape(qkv: Any, heads: int) -> tuple[int, int, int]:
    """B, T and C of qkv (B, T, 3·C); raises `ArrayRefused` where the heads do not divide C."""
    B, T, triple = held(qkv).shape
    if triple % (3 * heads):
        raise ArrayRefused(f"cuda backend: expected a width divisible by 3 · {heads} heads, found {triple}")
    return B, T, triple // 3
