"""A new payload sealed on the device: what leaves it is ciphertext.

The mirror image of `device_opener`. Pieces are gathered, device to device, into a slice of plaintext; a
full one is encrypted (ChaCha20) and tagged (Poly1305) on a stream of its own, copied to page-locked memory
and given to the sink while the next is gathered. A slice is sealed when it is known whether more follows:
the last chunk's nonce says that it is the last, so what was not closed does not open.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.age.chunk import CHUNK_SIZE, SEALED_SIZE, TAG_SIZE
from appliance.age.stream import Sink
from appliance.errors import UsageError
from appliance.worker.device_key import KEY_SIZE, DeviceKey
from appliance.worker.device_opener import SLICE_CHUNKS
from kernels.cuda import sealed_launches
from kernels.cuda.array import DeviceArray
from kernels.cuda.device import Device, Event

_ONE_TIME_KEY = 32
_NOT_YET = 2**64 - 1
"""As number of the last chunk: none of those being sealed is it."""


@dataclass(slots=True)
class _Slot:
    """Room for one slice: in clear and sealed on the device, sealed in page-locked memory."""

    plain: int
    sealed: int
    keys: int
    outward: memoryview
    size: int = 0
    """Sealed bytes on their way to the sink."""
    arrived: Event | None = None


class DeviceSealer:
    """Seals arrays on the device, and small headers from the host, one behind another (`Sealer`).

    The key is taken from the caller, whose copy is overwritten. The sink must take all the bytes given to it
    before it returns. What is given to `seal_from` may be changed again, on the same stream or once it is
    waited for, when the call returns: it was copied. Used from one thread at a time.
    """

    def __init__(self, device: Device, key: bytearray, write: Sink, slice_chunks: int = SLICE_CHUNKS) -> None:
        self._device, self._write = device, write
        self._slice_chunks = slice_chunks
        self._room = slice_chunks * CHUNK_SIZE
        self._stream = device.stream()
        self._filled = 0
        self._chunks = 0
        self._turn = 0
        self._open = True
        self._taken: list[int] = []
        self._key = DeviceKey(device, key, self._stream, device.pinned(KEY_SIZE))
        try:
            self._slots = [self._slot() for _ in range(2)]
            self._header = device.pinned(CHUNK_SIZE)
        except BaseException:
            self.discard()
            raise
        self.size = 0
        """Plaintext bytes taken so far."""

    def seal_from(self, buffer: bytes | bytearray | memoryview | DeviceArray) -> None:
        """Seal the buffer's bytes behind those before; raises what the sink raises, and then stays shut."""
        if not self._open:
            raise UsageError("payload sealer: expected it open, found it closed or failed")
        self._open = False
        if isinstance(buffer, DeviceArray):
            self._stream.wait(self._device.main.record())
            self._gather(buffer.bytes().address, buffer.nbytes)
            self._stream.synchronize()
        else:
            self._gather_from_host(memoryview(buffer).cast("B"))
        self._open = True

    def close(self) -> None:
        """Seal what is held as the end of the payload, hand it all to the sink, and zero what was taken."""
        if self._open:
            self._open = False
            self._seal(last=True)
            for slot in (self._slots[self._turn], self._slots[1 - self._turn]):
                self._hand_on(slot)
            self.discard()

    def discard(self) -> None:
        """Zero the key and everything taken on the device; what was not closed does not open."""
        self._open = False
        self._key.close()
        for address in self._taken:
            self._device.release(address)
        self._taken.clear()

    def _gather(self, address: int, size: int) -> None:
        done = 0
        while done < size:
            if self._filled == self._room:  # more follows, so what is held was not the end
                self._seal(last=False)
            piece = min(size - done, self._room - self._filled)
            to = self._slots[self._turn].plain + self._filled
            self._device.copy(to, address + done, piece, self._stream)
            self._filled += piece
            done += piece
        self.size += size

    def _gather_from_host(self, view: memoryview) -> None:
        staging = self._take(CHUNK_SIZE)
        for start in range(0, len(view), CHUNK_SIZE):
            piece = view[start : start + CHUNK_SIZE]
            self._header[: len(piece)] = piece
            self._device.upload(staging, self._header[: len(piece)], self._stream)
            self._gather(staging, len(piece))
            self._stream.synchronize()
        self._taken.remove(staging)
        self._device.release(staging)

    def _seal(self, *, last: bool) -> None:
        """Seal the slice that was gathered, and have the other slot ready for the next."""
        slot, device = self._slots[self._turn], self._device
        chunks = max(1, -(-self._filled // CHUNK_SIZE))
        slot.size = self._filled + chunks * TAG_SIZE
        end = self._chunks + chunks - 1 if last else _NOT_YET
        place = {"key": self._key.address, "first": self._chunks, "last": end}
        how = sealed_launches.one_time_keys(chunks)
        device.launch(how, self._stream, keys=slot.keys, count=chunks, **place)
        if self._filled:
            how = sealed_launches.seal_segment(0, self._filled)
            device.launch(
                how, self._stream, sealed=slot.sealed, plain=slot.plain, begin=0, size=self._filled, **place
            )
        how = sealed_launches.tag_chunks(chunks)
        device.launch(how, self._stream, sealed=slot.sealed, keys=slot.keys, count=chunks, size=slot.size)
        device.clear(slot.keys, chunks * _ONE_TIME_KEY, self._stream)
        device.download(slot.outward[: slot.size], slot.sealed, self._stream)
        slot.arrived = self._stream.record()
        self._chunks += chunks
        self._filled = 0
        self._turn = 1 - self._turn
        self._hand_on(self._slots[self._turn])

    def _hand_on(self, slot: _Slot) -> None:
        """Give a sealed slice to the sink once it has arrived."""
        if slot.arrived is not None:
            slot.arrived.synchronize()
            slot.arrived = None
            self._write(slot.outward[: slot.size])

    def _slot(self) -> _Slot:
        return _Slot(
            plain=self._take(self._room),
            sealed=self._take(self._slice_chunks * SEALED_SIZE),
            keys=self._take(self._slice_chunks * _ONE_TIME_KEY),
            outward=self._device.pinned(self._slice_chunks * SEALED_SIZE),
        )

    def _take(self, size: int) -> int:
        self._taken.append(self._device.allocate(size))
        return self._taken[-1]
