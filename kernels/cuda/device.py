"""What the CUDA backend and the sealed path need of a card: memory, streams, kernels, products, graphs.

Two things stand behind it: a card through CuPy (`kernels.cuda.card`), and the tests' CPU stand-in, which runs
the same kernels. Device memory is an address; it is zeros when it is allocated and zeros when it is released.
Everything queued on a stream runs in order; between streams only events order. What the host hands to
`upload` or `download` is page-locked (`pinned`) and stays untouched until the stream has passed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kernels.cuda.launches import Launch


class Event(Protocol):
    """A point in a stream."""

    def synchronize(self) -> None:
        """Wait until the stream has passed it; raises `DeviceFailed` for what failed before it."""


class Stream(Protocol):
    """A queue of the device."""

    def record(self) -> Event:
        """Mark the point behind all that is queued."""

    def wait(self, event: Event) -> None:
        """Let what is queued from here on wait for a point of another stream."""

    def synchronize(self) -> None:
        """Wait until all that is queued has run; raises `DeviceFailed` for what failed."""


class Graph(Protocol):
    """A recorded run of launches, copies and products."""

    def replay(self, stream: Stream) -> None:
        """Queue all of it again, on the same addresses."""


@dataclass(frozen=True, slots=True)
class Product:
    """out (M, N) = x (M, K) · y (K, N), added to out if `add`; row by row, x and y both of one dtype.

    `x_turned`: x lies as (K, M); `y_turned`: y lies as (N, K). `half`: x and y are bf16; sums are float32.
    """

    out: int
    x: int
    y: int
    M: int
    N: int
    K: int
    half: bool
    out_half: bool
    x_turned: bool = False
    y_turned: bool = False
    add: bool = False


class Device(Protocol):
    """One card. Raises `DeviceFull` when memory ends, `DeviceFailed` for what a driver reports."""

    NAME: str
    main: Stream

    def free_bytes(self) -> int:
        """Memory that is not taken, by whomever."""

    def allocate(self, size: int) -> int:
        """Take memory, zeroed, aligned to 256 bytes."""

    def release(self, address: int) -> None:
        """Zero memory that `allocate` gave, and give it back."""

    def pinned(self, size: int) -> memoryview:
        """Take page-locked host memory; it is given back when the device is closed."""

    def stream(self) -> Stream:
        """Make a stream."""

    def launch(self, how: Launch, stream: Stream, /, **values: float) -> None:
        """Queue a kernel; pointers are addresses, 0 for none."""

    def multiply(self, product: Product, stream: Stream) -> None:
        """Queue a matrix product."""

    def clear(self, address: int, size: int, stream: Stream) -> None:
        """Queue zeros."""

    def copy(self, to: int, source: int, size: int, stream: Stream) -> None:
        """Queue a copy within the device."""

    def upload(self, to: int, source: memoryview, stream: Stream) -> None:
        """Queue a copy from page-locked memory."""

    def download(self, to: memoryview, source: int, stream: Stream) -> None:
        """Queue a copy to page-locked memory."""

    def write(self, to: int, source: memoryview) -> None:
        """Wait for the main stream, then copy from any host memory."""

    def read(self, to: memoryview, source: int) -> None:
        """Wait for the main stream, then copy to any host memory."""

    def begin_graph(self, stream: Stream) -> None:
        """Record, instead of run, what is queued from here on."""

    def end_graph(self, stream: Stream) -> Graph:
        """Return what was recorded."""

    def close(self) -> None:
        """Zero and give back all memory that is still taken, wait for it, and end."""
