"""Arrays on their way into the library: checked, then an address.

A wrong shape or dtype would make compiled code write where it must not. So nothing here gives the address of
an array that is not contiguous, of the shape that the others imply, and float32 or, where the table allows,
bf16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import ArrayRefused
from kernels.table import BFLOAT16, Floats

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)


def half(array: Floats) -> int:
    """1 for bf16, 0 for float32; raises `ArrayRefused` on any other dtype."""
    if array.dtype == FLOAT32:
        return 0
    if array.dtype == BFLOAT16:
        return 1
    raise ArrayRefused(
        f"cpu backend: expected float32 or bf16, found {array.dtype}; float64 is for the reference"
    )


def at(array: npt.NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any] | None = FLOAT32) -> int:
    """Return the address of an array that has this shape and dtype (None: checked already)."""
    if array.shape != shape or (dtype is not None and array.dtype != dtype) or not array.flags.c_contiguous:
        wanted = "float32 or bf16" if dtype is None else dtype
        raise ArrayRefused(
            f"cpu backend: expected a contiguous array {shape} of {wanted}, "
            f"found {array.shape} of {array.dtype}{'' if array.flags.c_contiguous else ', not contiguous'}"
        )
    return int(array.ctypes.data)


def maybe_at(array: npt.NDArray[Any] | None, shape: tuple[int, ...]) -> int | None:
    """Address of a float32 array of this shape, None for none."""
    return None if array is None else at(array, shape)


def weight_at(weight: Floats, shape: tuple[int, int]) -> tuple[int, int]:
    """Address of a weight (I, O) and whether it is the transposed view of an (O, I) array."""
    if weight.flags.c_contiguous:
        return at(weight, shape), 0
    return at(weight.T, shape[::-1]), 1


def rows_at(table: Floats | None, rows: int, width: int) -> int | None:
    """Address of a table of at least `rows` rows."""
    return None if table is None else at(table, (max(rows, len(table)), width))


def packed_shape(qkv: Floats, heads: int) -> tuple[int, int, int]:
    """B, T and C of qkv (B, T, 3·C); raises `ArrayRefused` where the heads do not divide C."""
    B, T, triple = qkv.shape
    if triple % (3 * heads):
        raise ArrayRefused(f"cpu backend: expected a width divisible by 3 · {heads} heads, found {triple}")
    return B, T, triple // 3


def like_at(array: Floats | None, like: Floats) -> int | None:
    """Address of an array of the shape and dtype of another, None for none."""
    return None if array is None else at(array, like.shape, like.dtype)
