"""What every op of the CUDA backend stands on: its device, launches on the main stream, and room to work in.

Room is taken the first time that an op asks for it and kept, so that a step that was taken once allocates
nothing; while a graph is recorded, nothing may be taken at all. A product's float32 factor is narrowed to
bf16 anew at each use: a recorded graph must not depend on what was narrowed before it, and it costs about one
hundredth of a step (124 M parameters, 1.5 GB of traffic).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.cuda import launches
from kernels.cuda.array import DeviceArray, zeros
from kernels.cuda.device import Device, Graph, Product
from kernels.cuda.launches import Launch
from kernels.cuda.operands import INT64, held
from kernels.errors import ArrayRefused, DeviceFull
from kernels.table import BFLOAT16, Floats, Integers

_FLOAT_BYTES, _HALF_BYTES = 4, 2
_INDEX_LIMIT = 2**31
Run = Callable[[], None]


class Caller:
    """A device and its main stream."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._rooms: dict[str, tuple[int, int]] = {}
        self._graphs: dict[Hashable, Graph] = {}
        self._seen: set[Hashable] = set()
        self._recording = False

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Floats:
        """Allocate a zeroed array on the device; `dtype` may be `BFLOAT16`."""
        return zeros(self.device, shape, dtype)  # type: ignore[return-value]  # stands in for an array of NumPy's

    def room(self) -> int | None:
        """Bytes free on the device."""
        return self.device.free_bytes()

    def bring(self, name: str, array: Any) -> Integers:
        """Copy tokens or targets into the device's array of this name and shape, and return that."""
        if isinstance(array, DeviceArray):
            return array  # type: ignore[return-value]  # stands in for an array of NumPy's
        shape = "x".join(str(size) for size in array.shape)
        address = self._room(f"{name} {shape}", array.nbytes)
        target = DeviceArray(self.device, address, array.shape, INT64)
        target.write(array)
        return target  # type: ignore[return-value]  # stands in for an array of NumPy's

    def repeat(self, key: Hashable, run: Run) -> None:
        """Run launches that follow from `key` alone: the first time one by one, later from a recording."""
        if key in self._graphs:
            self._graphs[key].replay(self.device.main)
        elif key in self._seen:  # all room is taken by now
            self.device.begin_graph(self.device.main)
            self._recording = True
            try:
                run()
            finally:
                self._recording = False
                graph = self.device.end_graph(self.device.main)
            self._graphs[key] = graph
            graph.replay(self.device.main)
        else:
            run()
            self._seen.add(key)

    def _launch(self, how: Launch, /, **values: float) -> None:
        for name, value in values.items():
            if name in {"N", "C", "T", "V", "F", "O"} and value >= _INDEX_LIMIT:
                raise ArrayRefused(f"cuda kernel {how.kernel}: expected {name} below 2³¹, found {value}")
        self.device.launch(how, self.device.main, **values)

    def _room(self, name: str, size: int) -> int:
        """Address of at least `size` bytes that belong to `name`; what lies there is whatever was left."""
        address, taken = self._rooms.get(name, (0, 0))
        if taken < size:
            if self._recording:
                raise DeviceFull(f"cuda backend: expected the room of {name} before a graph is recorded")
            if address:
                self.device.release(address)
            address = self.device.allocate(max(1, size))
            self._rooms[name] = address, size
        return address

    def _narrowed(self, array: Any, name: str) -> int:
        """Address of an array's elements in bf16, as they lie: its own, or room called `name`."""
        found = held(array)
        if found.dtype == BFLOAT16:
            return found.address
        to = self._room(name, found.size * _HALF_BYTES)
        self._launch(launches.cast(to_half=True, count=found.size), out=to, x=found.address, count=found.size)
        return to

    def _multiply(self, product: Product) -> None:
        self.device.multiply(product, self.device.main)

    def _column_sums(
        self, first: int, second: int, partial: int, parts: int, columns: int, split: int
    ) -> None:
        self._launch(
            launches.column_sums(columns),
            first=first,
            second=second,
            partial=partial,
            parts=parts,
            columns=columns,
            split=split,
        )

    def _partial(self, parts: int, columns: int) -> int:
        return self._room("partial sums", parts * columns * _FLOAT_BYTES)

    def _host(self, address: int, dtype: npt.DTypeLike) -> Any:
        """Read one number."""
        value = np.zeros(1, dtype)
        self.device.read(value.view(np.uint8).data, address)
        return value[0]
