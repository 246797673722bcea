"""A card through CuPy: plain allocations, streams, cubins that were checked, cuBLAS, graphs.

Of CuPy only thin calls of the driver and of cuBLAS are used, through raw addresses: no array type, no memory
pool, no compiler, no element-wise kernel; a test holds this module to the names that it may use. Kernels come
as bytes that were held against the signed list. Memory is zeroed when it is taken and when it is given back.
Source: CUDA Runtime API and cuBLAS reference manuals; CuPy 14, `cupy.cuda`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.cuda.device import Product
from kernels.cuda.launches import FREE_SHARED, Launch
from kernels.cuda.signatures import KERNELS, bind
from kernels.errors import BackendMissing, DeviceFailed, DeviceFull

Cubins = Callable[[tuple[int, int]], Mapping[str, bytes]]
"""The checked cubins, by source, for a card of this compute capability; raises what stops the job."""

# Of the CUDA Runtime API (cudaError_t, cudaMemcpyKind), the driver API (CUfunction_attribute) and cuBLAS
# (cudaDataType_t, cublasComputeType_t, cublasOperation_t, cublasGemmAlgo_t).
_OUT_OF_MEMORY, _DRIVER_TOO_OLD, _NO_DEVICE, _ECC = 2, 35, 100, 214
_TO_DEVICE, _TO_HOST, _WITHIN = 1, 2, 3
_MAX_DYNAMIC_SHARED = 8
_FLOAT32, _BFLOAT16, _COMPUTE_FLOAT32, _DEFAULT_ALGORITHM = 0, 14, 68, -1
_AS_IT_IS, _TRANSPOSED = 0, 1

_SMALLEST_PIECE = 2 << 20  # bytes that the driver maps at a time

_SCALARS: Mapping[str, Any] = {
    "p": np.uint64,
    "i": np.int32,
    "u": np.uint32,
    "l": np.int64,
    "w": np.uint64,
    "f": np.float32,
}


@dataclass(frozen=True, slots=True)
class _Event:
    event: Any
    card: Card

    def synchronize(self) -> None:
        with self.card.guarded("an event"):
            self.event.synchronize()


@dataclass(frozen=True, slots=True)
class _Stream:
    stream: Any
    card: Card

    def record(self) -> _Event:
        with self.card.guarded("an event"):
            event = self.card.cuda.Event(disable_timing=True)
            event.record(self.stream)
        return _Event(event, self.card)

    def wait(self, event: Any) -> None:
        with self.card.guarded("an event"):
            self.stream.wait_event(event.event)

    def synchronize(self) -> None:
        with self.card.guarded("the end of a stream"):
            self.stream.synchronize()


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: Any
    card: Card

    def replay(self, stream: Any) -> None:
        with self.card.guarded("a recorded graph"):
            self.graph.launch(stream.stream)


class Card:
    """The first card that this process may use (`kernels.cuda.device.Device`)."""

    def __init__(self, cubins: Cubins) -> None:
        """Open card and kernels.

        Raises `BackendMissing` without CuPy, driver, card, or kernels for it, and what `cubins` raises.
        """
        self._last = "nothing"
        self._taken: dict[int, int] = {}
        self._page_locked: list[int] = []
        self.cuda = _cupy("cupy.cuda")
        self._runtime = _cupy("cupy.cuda.runtime")
        self._driver = _cupy("cupy.cuda.driver")
        _require_card(self._runtime)
        properties = self._runtime.getDeviceProperties(0)
        capability = (int(properties["major"]), int(properties["minor"]))
        self.NAME = properties["name"].decode("ascii", "replace")
        loaded = cubins(capability)  # checked, or raised, before anything reaches the driver
        with self.guarded("the kernels"):
            self._functions = _load(_cupy("cupy.cuda.function"), loaded)
            self._cublas = _cupy("cupy_backends.cuda.libs.cublas")
            self._handle = self._cublas.create()
            self.main = self.stream()
        self._numbers = np.array([0.0, 1.0], np.float32)  # the factors of a product, where cuBLAS reads them
        self._reserved: dict[str, int] = {}
        self.scrubbed_bytes = scrub(self)
        """What was zeroed before use, whoever had it before: a job that crashed zeroed nothing itself."""

    def free_bytes(self) -> int:
        """Memory that is not taken, by whomever."""
        with self.guarded("the size of memory"):
            free, _ = self._runtime.memGetInfo()
        return int(free)

    def allocate(self, size: int) -> int:
        """Take memory, zeroed."""
        with self.guarded(f"{size} bytes of memory"):
            address = int(self._runtime.malloc(size))
            self._taken[address] = size
            self._runtime.memset(address, 0, size)
            self._runtime.deviceSynchronize()
        return address

    def release(self, address: int) -> None:
        """Zero memory once everything has run, and give it back."""
        size = self._taken.pop(address)
        with self.guarded("memory to zero"):
            self._runtime.deviceSynchronize()
            self._runtime.memset(address, 0, size)
            self._runtime.deviceSynchronize()
            self._runtime.free(address)

    def release_all(self) -> None:
        """Zero and give back all device memory that is taken; whoever held some has none."""
        for address in tuple(self._taken):
            self.release(address)

    def pinned(self, size: int) -> memoryview:
        """Take page-locked host memory, zeroed."""
        with self.guarded(f"{size} bytes of page-locked memory"):
            address = int(self._runtime.hostAlloc(size, 0))
        self._page_locked.append(address)
        ctypes.memset(address, 0, size)
        return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")

    def stream(self) -> _Stream:
        """Make a stream."""
        with self.guarded("a stream"):
            return _Stream(self.cuda.Stream(non_blocking=True), self)

    def launch(self, how: Launch, stream: _Stream, /, **values: float) -> None:
        """Queue a kernel."""
        function = self._functions[how.kernel]
        arguments = tuple(_SCALARS[letter](value) for letter, value in bind(how.kernel, values))
        with self.guarded(how.kernel):
            if how.shared_bytes > self._reserved.get(how.kernel, FREE_SHARED):
                self._driver.funcSetAttribute(function.ptr, _MAX_DYNAMIC_SHARED, how.shared_bytes)
                self._reserved[how.kernel] = how.shared_bytes
            function(how.grid, how.block, arguments, how.shared_bytes, stream.stream)
        self._last = how.kernel

    def multiply(self, product: Product, stream: _Stream) -> None:
        """Queue a product: cuBLAS counts columns first, so it computes the turned result."""
        p, kind = product, _BFLOAT16 if product.half else _FLOAT32
        one, start = (self._numbers[at:].ctypes.data for at in (1, int(p.add)))
        with self.guarded("a matrix product"):
            self._cublas.setStream(self._handle, stream.stream.ptr)
            self._cublas.gemmEx(
                self._handle,
                _TRANSPOSED if p.y_turned else _AS_IT_IS,
                _TRANSPOSED if p.x_turned else _AS_IT_IS,
                *(p.N, p.M, p.K),
                *(one, p.y, kind, p.K if p.y_turned else p.N),
                *(p.x, kind, p.M if p.x_turned else p.K),
                *(start, p.out, _BFLOAT16 if p.out_half else _FLOAT32, p.N),
                *(_COMPUTE_FLOAT32, _DEFAULT_ALGORITHM),
            )
        self._last = "a matrix product"

    def clear(self, address: int, size: int, stream: _Stream) -> None:
        """Queue zeros."""
        if size:
            with self.guarded("zeros"):
                self._runtime.memsetAsync(address, 0, size, stream.stream.ptr)

    def copy(self, to: int, source: int, size: int, stream: _Stream) -> None:
        """Queue a copy within the device."""
        self._queue_copy(to, source, size, _WITHIN, stream)

    def upload(self, to: int, source: memoryview, stream: _Stream) -> None:
        """Queue a copy from page-locked memory."""
        self._queue_copy(to, _address(source), len(source), _TO_DEVICE, stream)

    def download(self, to: memoryview, source: int, stream: _Stream) -> None:
        """Queue a copy to page-locked memory."""
        self._queue_copy(_address(to), source, len(to), _TO_HOST, stream)

    def write(self, to: int, source: memoryview) -> None:
        """Wait for the main stream, then copy from any host memory."""
        self.main.synchronize()
        if len(source):
            with self.guarded("a copy"):
                self._runtime.memcpy(to, _address(source), len(source), _TO_DEVICE)

    def read(self, to: memoryview, source: int) -> None:
        """Wait for the main stream, then copy to any host memory."""
        self.main.synchronize()
        if len(to):
            with self.guarded("a copy"):
                self._runtime.memcpy(_address(to), source, len(to), _TO_HOST)

    def begin_graph(self, stream: _Stream) -> None:
        """Record, instead of run, what is queued from here on."""
        with self.guarded("a graph to record"):
            stream.stream.begin_capture()

    def end_graph(self, stream: _Stream) -> _Graph:
        """Return what was recorded."""
        with self.guarded("a graph to record"):
            return _Graph(stream.stream.end_capture(), self)

    def close(self) -> None:
        """Zero and give back everything. A card that is lost cannot be zeroed: raises `DeviceFailed`."""
        self.release_all()
        with self.guarded("page-locked memory to give back"):
            for address in self._page_locked:
                self._runtime.freeHost(address)
        self._page_locked.clear()

    @contextlib.contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Turn what CuPy raises (RuntimeError with a status) into `DeviceFull` or `DeviceFailed`."""
        try:
            yield
        except RuntimeError as error:
            status = getattr(error, "status", 0)
            if status == _OUT_OF_MEMORY:
                raise DeviceFull(
                    f"{self.NAME}: expected {what}, found {self._runtime.memGetInfo()[0]} bytes free; lower "
                    "train.batch and raise train.accumulate, or set train.recompute"
                ) from error
            hint = "; its memory is failing: have the card replaced" if status == _ECC else ""
            raise DeviceFailed(
                f"{self.NAME}: expected {what}, found {error}, after {self._last} was launched{hint}; "
                "the last checkpoint stands"
            ) from error

    def _queue_copy(self, to: int, source: int, size: int, kind: int, stream: _Stream) -> None:
        if size:
            with self.guarded("a copy"):
                self._runtime.memcpyAsync(to, source, size, kind, stream.stream.ptr)


def scrub(card: Card) -> int:
    """Take all memory that a card gives, zeroed, and give it back; returns how many bytes that was.

    Pieces become half as large where one is not given, down to the smallest: what is left, no job can get.
    """
    pieces: list[int] = []
    total, size = 0, card.free_bytes()
    while size >= _SMALLEST_PIECE:
        try:
            pieces.append(card.allocate(size))
        except DeviceFull:
            size //= 2
        else:
            total += size
            size = min(size, card.free_bytes())
    for address in pieces:
        card.release(address)
    return total


def _cupy(name: str) -> Any:
    """Import a part of CuPy, late: it is an extra."""
    try:
        return importlib.import_module(name)
    except ImportError as missing:
        raise BackendMissing(
            f"expected CuPy for the backend 'cuda', found {missing}; install the extra: pip install "
            "'training-appliance[gpu]' with requirements/gpu.txt, or choose the backend 'cpu'"
        ) from missing


def _require_card(runtime: Any) -> None:
    """Raise `BackendMissing` unless driver and card answer."""
    try:
        count = runtime.getDeviceCount()
    except RuntimeError as error:
        status = getattr(error, "status", 0)
        if status == _DRIVER_TOO_OLD:
            wanted = runtime.runtimeGetVersion()
            raise BackendMissing(
                f"expected a driver for CUDA {wanted // 1000}.{wanted % 1000 // 10}, found none or an older "
                f"one ({runtime.driverGetVersion()}); install a newer driver, or choose the backend 'cpu'"
            ) from error
        if status != _NO_DEVICE:
            raise DeviceFailed(f"expected a driver that counts its cards, found {error}") from error
        count = 0
    if not count:
        raise BackendMissing(
            "expected a card, found none that this process may use; choose the backend 'cpu'"
        )


def _load(function: Any, cubins: Mapping[str, bytes]) -> dict[str, Any]:
    """Hand checked bytes to the driver; return every kernel of the table by its name."""
    modules = {}
    for source, data in cubins.items():
        modules[source] = function.Module()
        modules[source].load(data)
    return {name: modules[kernel.source].get_function(name) for name, kernel in KERNELS.items()}


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data) if len(view) else 0
