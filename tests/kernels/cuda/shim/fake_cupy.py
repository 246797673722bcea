"""What `kernels.cuda.card` uses of CuPy, over host memory: exactly these names, and kernels run by the shim.

The product follows the BLAS standard, columns first, without regard to who calls it. Streams run at once.
"""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType

import numpy as np

from kernels.cuda.launches import Launch
from kernels.cuda.signatures import KERNELS
from kernels.table import BFLOAT16
from tests.kernels.cpu.conftest import narrow, wide
from tests.kernels.cuda.shim import library

FLOAT32 = np.dtype(np.float32)


class CudaError(RuntimeError):
    """As CUDARuntimeError: a RuntimeError with a status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Fake:
    """One card's state, and the modules that show it."""

    def __init__(self, size: int = 1 << 28) -> None:
        self.size = size
        self.taken: dict[int, np.ndarray] = {}
        self.page_locked: dict[int, np.ndarray] = {}
        self.cards = 1
        self.count_fails: CudaError | None = None
        self.capability = (9, 0)
        self.loaded: list[bytes] = []
        self.shared: dict[str, int] = {}
        self.fails_at: dict[str, CudaError] = {}
        self.given_back: list[np.ndarray] = []
        self.largest = size  # piece that is given at once

    def install(self, monkeypatch) -> None:
        parts = {
            "cupy": {},
            "cupy.cuda": {"Stream": _Stream, "Event": _Event},
            "cupy.cuda.runtime": {name: getattr(self, name) for name in RUNTIME},
            "cupy.cuda.driver": {"funcSetAttribute": self.reserve},
            "cupy.cuda.function": {"Module": lambda: _Module(self)},
            "cupy_backends": {},
            "cupy_backends.cuda": {},
            "cupy_backends.cuda.libs": {},
            "cupy_backends.cuda.libs.cublas": {
                "create": lambda: 1,
                "setStream": lambda _handle, _stream: None,
                "gemmEx": gemm,
            },
        }
        for name, members in parts.items():
            module = ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)

    def getDeviceCount(self) -> int:  # noqa: N802  CuPy's names, here and below
        if self.count_fails:
            raise self.count_fails
        return self.cards

    def getDeviceProperties(self, _: int) -> dict:  # noqa: N802
        return {"name": b"NVIDIA Imaginary", "major": self.capability[0], "minor": self.capability[1]}

    def runtimeGetVersion(self) -> int:  # noqa: N802
        return 13000

    def driverGetVersion(self) -> int:  # noqa: N802
        return 12040

    def memGetInfo(self) -> tuple[int, int]:  # noqa: N802
        return self.size - sum(each.size for each in self.taken.values()), self.size

    def malloc(self, size: int) -> int:
        if size > min(self.largest, self.memGetInfo()[0]):
            raise CudaError(2, "cudaErrorMemoryAllocation: out of memory")
        array = np.full(size, 0xA5, np.uint8)  # what another job left
        self.taken[array.ctypes.data] = array
        return array.ctypes.data

    def free(self, address: int) -> None:
        self.given_back.append(self.taken.pop(address))

    def hostAlloc(self, size: int, _: int) -> int:  # noqa: N802
        array = np.full(size, 0xA5, np.uint8)
        self.page_locked[array.ctypes.data] = array
        return array.ctypes.data

    def freeHost(self, address: int) -> None:  # noqa: N802
        del self.page_locked[address]

    def memset(self, address: int, value: int, size: int) -> None:
        ctypes.memset(address, value, size)

    def memsetAsync(self, address: int, value: int, size: int, _: int) -> None:  # noqa: N802
        ctypes.memset(address, value, size)

    def memcpy(self, to: int, source: int, size: int, _: int) -> None:
        ctypes.memmove(to, source, size)

    def memcpyAsync(self, to: int, source: int, size: int, _kind: int, _stream: int) -> None:  # noqa: N802
        ctypes.memmove(to, source, size)

    def deviceSynchronize(self) -> None:  # noqa: N802
        return

    def reserve(self, function: str, attribute: int, size: int) -> None:
        assert attribute == 8
        self.shared[function] = size


RUNTIME = (
    *("getDeviceCount", "getDeviceProperties", "runtimeGetVersion", "driverGetVersion", "memGetInfo"),
    *("malloc", "free", "hostAlloc", "freeHost", "memset", "memsetAsync", "memcpy", "memcpyAsync"),
    "deviceSynchronize",
)


class _Event:
    def __init__(self, *, disable_timing: bool) -> None:
        assert disable_timing

    def record(self, stream: _Stream) -> None:
        assert isinstance(stream, _Stream)

    def synchronize(self) -> None:
        return


class _Stream:
    ptr = 7
    recording: list | None = None  # of the one stream that records

    def __init__(self, *, non_blocking: bool) -> None:
        assert non_blocking

    def wait_event(self, event: _Event) -> None:
        assert isinstance(event, _Event)

    def synchronize(self) -> None:
        return

    def begin_capture(self) -> None:
        _Stream.recording = []

    def end_capture(self) -> _Graph:
        actions, _Stream.recording = _Stream.recording, None
        return _Graph(actions)


class _Graph:
    def __init__(self, actions: list) -> None:
        self.actions = actions

    def launch(self, stream: _Stream) -> None:
        assert isinstance(stream, _Stream)
        for action in self.actions:
            action()


def queued(action) -> None:
    if _Stream.recording is None:
        action()
    else:
        _Stream.recording.append(action)


class _Module:
    def __init__(self, fake: Fake) -> None:
        self.fake = fake

    def load(self, data: bytes) -> None:
        self.fake.loaded.append(data)

    def get_function(self, name: str) -> _Function:
        return _Function(self.fake, name)


class _Function:
    def __init__(self, fake: Fake, name: str) -> None:
        self.fake, self.name, self.ptr = fake, name, name

    def __call__(self, grid, block, arguments, shared, stream) -> None:
        assert isinstance(stream, _Stream)
        if self.name in self.fake.fails_at:
            raise self.fake.fails_at[self.name]
        assert shared <= self.fake.shared.get(self.name, 48 * 1024)
        values = {}
        for (name, letter), value in zip(KERNELS[self.name].arguments, arguments, strict=True):
            assert value.dtype == {"p": "u8", "i": "i4", "u": "u4", "l": "i8", "w": "u8", "f": "f4"}[letter]
            values[name] = (int(value) or None) if letter == "p" else value.item()
        queued(lambda: library.launch(Launch(self.name, grid, block, shared), **values))


def gemm(
    _handle,
    op_a,
    op_b,
    m,
    n,
    k,
    alpha,
    a,
    a_type,
    lda,
    b,
    b_type,
    ldb,
    beta,
    c,
    c_type,
    ldc,
    compute,
    _algorithm,
) -> None:
    """Write alpha · op(A) op(B) + beta · C to C (m, n), all with columns one after another."""
    assert compute == 68
    alpha, beta = (ctypes.c_float.from_address(each).value for each in (alpha, beta))

    def columns(address: int, rows: int, count: int, leading: int, kind: int) -> np.ndarray:
        dtype = {0: FLOAT32, 14: BFLOAT16}[kind]
        flat = np.frombuffer(
            (ctypes.c_char * (leading * count * dtype.itemsize)).from_address(address), dtype
        )
        return flat.reshape(count, leading).T[:rows]

    def values(array: np.ndarray) -> np.ndarray:
        return wide(np.ascontiguousarray(array)).astype(np.float32)

    def run() -> None:
        left = values(columns(a, *((k, m) if op_a else (m, k)), lda, a_type))
        right = values(columns(b, *((n, k) if op_b else (k, n)), ldb, b_type))
        to = columns(c, m, n, ldc, c_type)
        total = alpha * ((left.T if op_a else left) @ (right.T if op_b else right))
        total = total + (beta * values(to) if beta else 0.0)
        to[...] = narrow(total) if c_type else total

    queued(run)
