"""A payload key in device memory, for as short as it is used.

It passes a page-locked buffer of its own size, which is overwritten as soon as the copy is done, and the bus.
KNOWN: whoever records the bus reads it there; whoever records both the bus and this reads all.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from appliance.errors import UsageError
from kernels.cuda.device import Device, Stream

KEY_SIZE = 32


class DeviceKey:
    """One key; `close` zeroes it on the device and waits for that."""

    def __init__(self, device: Device, key: bytearray, stream: Stream, room: memoryview) -> None:
        """Take the key from the host, whose copy is overwritten; `room` is page-locked, `KEY_SIZE` bytes."""
        if len(key) != KEY_SIZE:
            raise UsageError(f"payload key: expected {KEY_SIZE} bytes, found {len(key)}")
        self._device, self._stream = device, stream
        self.address = device.allocate(KEY_SIZE)
        try:
            room[:] = key
            device.upload(self.address, room, stream)
            stream.synchronize()
        finally:
            room[:] = bytes(KEY_SIZE)
            key[:] = bytes(KEY_SIZE)

    def close(self) -> None:
        """Zero the key; afterwards it has no address."""
        if self.address:
            self._device.clear(self.address, KEY_SIZE, self._stream)
            self._stream.synchronize()
            self._device.release(self.address)
            self.address = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
