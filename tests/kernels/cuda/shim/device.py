"""A card that is not there: `kernels.cuda.device.Device` over host memory and the kernels run by the shim.

Streams are lazy: nothing queued on one runs before somebody waits for it, so what forgets to wait, or
writes to a page-locked buffer too early, finds other bytes. Every address is held against what was
allocated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kernels.cuda.device import Product
from kernels.cuda.launches import Launch
from kernels.cuda.signatures import bind
from kernels.errors import DeviceFailed, DeviceFull
from kernels.table import BFLOAT16
from tests.kernels.cpu.conftest import narrow, wide
from tests.kernels.cuda.shim import library

Action = Callable[[], None]
ALIGNMENT = 256


@dataclass
class ShimStream:
    """Actions that wait to be run; `passed` of all that were ever queued are done."""

    queued: list[Action] = field(default_factory=list)
    passed: int = 0
    recording: list[Action] | None = None

    def push(self, action: Action) -> None:
        (self.queued if self.recording is None else self.recording).append(action)

    def run_to(self, point: int) -> None:
        while self.passed < point:
            action = self.queued.pop(0)
            self.passed += 1
            action()

    def record(self) -> ShimEvent:
        return ShimEvent(self, self.passed + len(self.queued))

    def wait(self, event: ShimEvent) -> None:
        self.push(event.synchronize)

    def synchronize(self) -> None:
        self.run_to(self.passed + len(self.queued))


@dataclass
class ShimEvent:
    stream: ShimStream
    point: int

    def synchronize(self) -> None:
        self.stream.run_to(self.point)


@dataclass
class ShimGraph:
    actions: list[Action]

    def replay(self, stream: ShimStream) -> None:
        for action in self.actions:
            stream.push(action)


class ShimDevice:
    """One card with `size` bytes."""

    NAME = "shim"

    def __init__(self, size: int = 1 << 30) -> None:
        self.size = size
        self.main = ShimStream()
        self.memory: dict[
            int, tuple[np.ndarray, int]
        ] = {}  # address to the buffer that holds it, and its size
        self.page_locked: list[np.ndarray] = []
        self.launched: list[str] = []
        self.streams = [self.main]
        self.fails_at: str = ""  # the kernel at which the card is lost

    def free_bytes(self) -> int:
        return self.size - sum(size for _, size in self.memory.values())

    def allocate(self, size: int) -> int:
        if size > self.free_bytes():
            raise DeviceFull(
                f"{self.NAME}: expected {size} bytes of device memory, found {self.free_bytes()} free"
            )
        buffer = np.zeros(size + ALIGNMENT, np.uint8)
        address = -(-buffer.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.memory[address] = (buffer, size)
        return address

    def release(self, address: int) -> None:
        for stream in self.streams:
            stream.synchronize()
        buffer, _ = self.memory.pop(address)
        buffer[:] = 0

    def pinned(self, size: int) -> memoryview:
        self.page_locked.append(np.zeros(size, np.uint8))
        return memoryview(self.page_locked[-1])

    def stream(self) -> ShimStream:
        self.streams.append(ShimStream())
        return self.streams[-1]

    def launch(self, how: Launch, stream: ShimStream, /, **values: float) -> None:
        for letter, value in bind(how.kernel, values):
            if letter == "p" and value:
                self._bytes_from(value, f"{how.kernel}: a pointer")

        def run() -> None:
            if how.kernel == self.fails_at:
                raise DeviceFailed(f"{self.NAME}: expected {how.kernel} to end, found the card lost")
            self.launched.append(how.kernel)
            library.launch(
                how,
                **{
                    name: value or None if isinstance(value, int) and is_pointer(how, name) else value
                    for name, value in values.items()
                },
            )

        stream.push(run)

    def multiply(self, product: Product, stream: ShimStream) -> None:
        stream.push(lambda: self._multiply(product))

    def clear(self, address: int, size: int, stream: ShimStream) -> None:
        self._check(address, size)
        stream.push(lambda: ctypes.memset(address, 0, size) and None)

    def copy(self, to: int, source: int, size: int, stream: ShimStream) -> None:
        self._check(to, size)
        self._check(source, size)
        stream.push(lambda: ctypes.memmove(to, source, size) and None)

    def upload(self, to: int, source: memoryview, stream: ShimStream) -> None:
        self._check(to, len(source))
        assert self._is_pinned(source), "an upload from memory that is not page-locked"
        stream.push(lambda: ctypes.memmove(to, _address(source), len(source)) and None)

    def download(self, to: memoryview, source: int, stream: ShimStream) -> None:
        self._check(source, len(to))
        assert self._is_pinned(to), "a download to memory that is not page-locked"
        stream.push(lambda: ctypes.memmove(_address(to), source, len(to)) and None)

    def write(self, to: int, source: memoryview) -> None:
        self._check(to, len(source))
        self.main.synchronize()
        ctypes.memmove(to, _address(source), len(source))

    def read(self, to: memoryview, source: int) -> None:
        self._check(source, len(to))
        self.main.synchronize()
        ctypes.memmove(_address(to), source, len(to))

    def begin_graph(self, stream: ShimStream) -> None:
        stream.recording = []

    def end_graph(self, stream: ShimStream) -> ShimGraph:
        actions, stream.recording = stream.recording or [], None
        return ShimGraph(actions)

    def close(self) -> None:
        for stream in self.streams:
            stream.queued.clear()
        for buffer, _ in self.memory.values():
            buffer[:] = 0
        self.memory.clear()
        for buffer in self.page_locked:
            buffer[:] = 0

    def contents(self) -> bytes:
        """All of device memory that is taken, once everything has run."""
        for stream in self.streams:
            stream.synchronize()
        return b"".join(buffer.tobytes() for buffer, _ in self.memory.values())

    def at(self, address: int, count: int, dtype: np.dtype) -> np.ndarray:
        """Device memory as a host array."""
        size = count * np.dtype(dtype).itemsize
        self._check(address, size)
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype)

    def _multiply(self, p: Product) -> None:
        def matrix(address: int, rows: int, columns: int, turned: bool, half: bool) -> np.ndarray:  # noqa: FBT001
            flat = self.at(address, rows * columns, BFLOAT16 if half else np.dtype(np.float32))
            plain = wide(flat).astype(np.float32) if half else flat
            return plain.reshape(columns, rows).T if turned else plain.reshape(rows, columns)

        total = matrix(p.x, p.M, p.K, p.x_turned, p.half) @ matrix(p.y, p.K, p.N, p.y_turned, p.half)
        out = self.at(p.out, p.M * p.N, BFLOAT16 if p.out_half else np.dtype(np.float32))
        if p.add:
            total = total + matrix(p.out, p.M, p.N, turned=False, half=p.out_half)
        total = np.ascontiguousarray(total, np.float32).reshape(-1)
        out[:] = narrow(total) if p.out_half else total

    def _bytes_from(self, address: int, what: str) -> int:
        for start, (_, size) in self.memory.items():
            if start <= address < start + size:
                return start + size - address
        raise AssertionError(f"{what} outside of device memory")

    def _check(self, address: int, size: int) -> None:
        assert size == 0 or size <= self._bytes_from(address, "a copy"), "a copy beyond what was allocated"

    def _is_pinned(self, view: memoryview) -> bool:
        start = _address(view)
        return any(
            held.ctypes.data <= start and start + len(view) <= held.ctypes.data + held.size
            for held in self.page_locked
        )


def is_pointer(how: Launch, name: str) -> bool:
    return dict(library.KERNELS[how.kernel].arguments)[name] == "p"


def _address(view: memoryview) -> int:
    return np.frombuffer(view, np.uint8).ctypes.data if len(view) else 0
