"""An array in device memory, as far as training handles arrays itself: views, zeros, and a way in and out.

It offers no arithmetic: that is what kernels are for. A view is a run of the first axis, another shape of the
same elements, or a matrix turned; whatever else NumPy can do with an array is refused. Reading one as a NumPy
array copies it to the host, and that copy is in clear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.cuda.device import Device, Stream
from kernels.errors import ArrayRefused

_BYTES = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """Elements of `dtype` in `shape`, row by row from `address`; `turned`: it lies as its transpose."""

    device: Device
    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    turned: bool = False

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def T(self) -> DeviceArray:  # noqa: N802  as NumPy calls it
        """A matrix turned: the same memory."""
        if self.ndim != 2:
            raise ArrayRefused(f"device array: expected a matrix to turn, found {self.shape}")
        return DeviceArray(self.device, self.address, self.shape[::-1], self.dtype, not self.turned)

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: Any) -> DeviceArray:
        """Return the same elements in another shape; one size may be -1."""
        sizes: tuple[int, ...] = shape[0] if isinstance(shape[0], tuple) else shape
        known = math.prod(size for size in sizes if size != -1)
        wanted = tuple(self.size // max(1, known) if size == -1 else size for size in sizes)
        if math.prod(wanted) != self.size or self.turned:
            raise ArrayRefused(f"device array: expected {self.size} elements in a row, asked for {shape}")
        return DeviceArray(self.device, self.address, wanted, self.dtype)

    def bytes(self) -> DeviceArray:
        """Return the same memory as bytes, one after another."""
        if self.turned:
            raise ArrayRefused("device array: expected rows one after another, found a matrix turned")
        return DeviceArray(self.device, self.address, (self.nbytes,), _BYTES)

    def __getitem__(self, key: Any) -> DeviceArray:
        start, stop = self._span(key)
        step = math.prod(self.shape[1:]) * self.dtype.itemsize
        shape = (stop - start, *self.shape[1:])
        return DeviceArray(self.device, self.address + start * step, shape, self.dtype)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write numbers from the host, or zeros without any; a value is broadcast and cast as NumPy does."""
        part = self if key is Ellipsis else self[key]
        if isinstance(value, int | float) and value == 0:
            self.device.clear(part.address, part.nbytes, self.device.main)
            return
        host = np.empty(part.shape, part.dtype)
        host[...] = value
        part.write(host)

    def __array__(
        self,
        dtype: npt.DTypeLike | None = None,
        copy: bool | None = None,  # noqa: FBT001  NumPy's own signature
    ) -> npt.NDArray[Any]:
        """Copy to the host. What is copied lies there in clear."""
        lying = self.shape[::-1] if self.turned else self.shape
        host = np.empty(lying, self.dtype)
        if host.nbytes:
            self.device.read(host.reshape(-1).view(np.uint8).data, self.address)
        turned = host.T if self.turned else host
        return turned if dtype is None else turned.astype(dtype, copy=bool(copy))

    def mean(self, dtype: npt.DTypeLike | None = None) -> Any:
        """Average on the host, in one order."""
        return np.asarray(self).mean(dtype=dtype)

    def write(self, host: npt.NDArray[Any]) -> None:
        """Copy a host array of this shape and dtype here."""
        if host.shape != self.shape or host.dtype != self.dtype or self.turned:
            raise ArrayRefused(
                f"device array: expected {self.dtype} {self.shape}, found {host.dtype} {host.shape}"
            )
        flat = np.ascontiguousarray(host).reshape(-1).view(np.uint8)
        if flat.size:
            self.device.write(self.address, flat.data)

    def like(self) -> DeviceArray:
        """Take room for such an array; zeros."""
        return zeros(self.device, self.shape, self.dtype)

    def copy_to(self, other: DeviceArray, stream: Stream) -> None:
        """Queue a copy to an array of the same shape and dtype on the same device."""
        if (other.shape, other.dtype, other.turned) != (self.shape, self.dtype, self.turned):
            raise ArrayRefused(
                f"device array: expected {self.dtype} {self.shape}, found {other.dtype} {other.shape}"
            )
        self.device.copy(other.address, self.address, self.nbytes, stream)

    def _span(self, key: Any) -> tuple[int, int]:
        if not isinstance(key, slice) or key.step not in {None, 1} or self.turned or not self.shape:
            raise ArrayRefused(f"device array: expected a run of the first axis, found {key!r}")
        start, stop, _ = key.indices(self.shape[0])
        return start, max(start, stop)


def zeros(device: Device, shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """Take device memory for an array of zeros; it stays taken until the device is closed."""
    kind = np.dtype(dtype)
    address = device.allocate(max(1, math.prod(shape) * kind.itemsize))
    return DeviceArray(device, address, tuple(shape), kind)
