"""A sealed payload opened on a device: the host holds ciphertext only.

The payload goes through in slices, runs of chunks on a fixed grid: read from its file into page-locked
memory, copied to the device, verified there (Poly1305), then decrypted (ChaCha20) piece by piece to where
each piece belongs. Two slices take turns, and the one behind is on its way while the one before is opened.
Guarantees, as `PayloadReader` gives them: no byte is written before its chunk's tag fits, none at all
before the *final* chunk was verified, and what fails leaves zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appliance.age.chunk import CHUNK_SIZE, SEALED_SIZE, plain_size
from appliance.age.reader import read_at
from appliance.errors import IntegrityError, UsageError
from appliance.worker.device_key import KEY_SIZE, DeviceKey
from kernels.cuda import sealed_launches
from kernels.cuda.array import DeviceArray
from kernels.cuda.device import Device, Event

SLICE_CHUNKS = 512
"""Chunks of a slice, 32 MiB: a warp each is enough for all of a card, and two of them are little memory."""

_WORD = 4
_ONE_TIME_KEY = 32
Buffer = bytearray | memoryview | DeviceArray


@dataclass(slots=True)
class _Slot:
    """Room for one slice, on both sides; `index` is the slice that it holds, -1 for none."""

    sealed: memoryview  # page-locked
    verdicts: memoryview  # page-locked
    on_device: int
    refused: int
    keys: int
    index: int = -1
    copied: Event | None = None
    """Behind the copy: from here on the page-locked memory may be used again."""
    used: Event | None = None
    """Behind the last kernel that reads the slice: from here on the slot may be used again."""


class DeviceOpener:
    """Opens any range of a sealed payload straight into device memory (`Opener`).

    `offset` is where the first chunk begins (after the nonce), `length` the bytes of all chunks. The key is
    taken from the caller, whose copy is overwritten. The descriptor stays the caller's. Raises
    IntegrityError.
    """

    def __init__(
        self,
        device: Device,
        fd: int,
        key: bytearray,
        offset: int,
        length: int,
        slice_chunks: int = SLICE_CHUNKS,
    ) -> None:
        self._device, self._fd = device, fd
        self._offset, self._length = offset, length
        self._count = max(1, -(-length // SEALED_SIZE))
        final = plain_size(self._count - 1, length - (self._count - 1) * SEALED_SIZE)
        self.size = (self._count - 1) * CHUNK_SIZE + final
        """Plaintext bytes in all."""
        self._slice_chunks = min(slice_chunks, self._count)
        self._copies = device.stream()
        self._taken: list[int] = []
        self._key = DeviceKey(device, key, device.main, device.pinned(KEY_SIZE))
        try:
            self._slots = [self._slot() for _ in range(2)]
            self._scratch = self._take(CHUNK_SIZE)
            self._bounce = device.pinned(CHUNK_SIZE)
            self._settle(self._load((self._count - 1) // self._slice_chunks))
        except BaseException:
            self.close()
            raise

    def open_into(self, buffer: Buffer, offset: int) -> None:
        """Fill the whole buffer with the plaintext that begins at byte `offset`; on return it is verified.

        A buffer on the host is for headers: it gets its bytes, and no others, by way of the device. Raises
        IntegrityError, then with zeros in the buffer, and UsageError beyond the end.
        """
        size = buffer.nbytes if isinstance(buffer, DeviceArray) else len(memoryview(buffer).cast("B"))
        if not 0 <= offset <= self.size - size:
            raise UsageError(
                f"payload: expected a range within {self.size} bytes, found {size} bytes from {offset}"
            )
        if isinstance(buffer, DeviceArray):
            self._open_on_device(buffer.bytes().address, size, offset)
        else:
            self._open_on_host(memoryview(buffer).cast("B"), offset)

    def close(self) -> None:
        """Zero the key and everything that was taken on the device."""
        self._key.close()
        for address in self._taken:
            self._device.release(address)
        self._taken.clear()

    def _open_on_device(self, address: int, size: int, offset: int) -> None:
        touched: list[_Slot] = []
        try:
            done = 0
            while done < size:
                index, begin = divmod(offset + done, self._slice_chunks * CHUNK_SIZE)
                piece = min(size - done, self._slice_chunks * CHUNK_SIZE - begin)
                slot = self._load(index)
                self._decrypt(slot, address + done, begin, piece)
                if offset + done + piece == (index + 1) * self._slice_chunks * CHUNK_SIZE:
                    self._load(index + 1)  # on its way while this one is opened
                touched = [slot, *touched[:1]]
                done += piece
            for slot in touched:
                self._settle(slot)
        except BaseException:
            self._device.clear(address, size, self._device.main)
            self._device.main.synchronize()
            raise

    def _open_on_host(self, out: memoryview, offset: int) -> None:
        for start in range(0, len(out), CHUNK_SIZE):
            piece = out[start : start + CHUNK_SIZE]
            self._open_on_device(self._scratch, len(piece), offset + start)
            bounce = self._bounce[: len(piece)]
            self._device.download(bounce, self._scratch, self._device.main)
            self._device.clear(self._scratch, len(piece), self._device.main)
            self._device.main.synchronize()
            piece[:] = bounce
            bounce[:] = bytes(len(piece))

    def _load(self, index: int) -> _Slot:
        """Have slice `index` copied and verified, or find it there; the slot's turn, beyond the last."""
        slot = self._slots[index % 2]
        first = index * self._slice_chunks
        if slot.index == index or first >= self._count:
            return slot
        self._settle(slot)
        slot.index = -1
        chunks = min(self._slice_chunks, self._count - first)
        size = min(chunks * SEALED_SIZE, self._length - first * SEALED_SIZE)
        read_at(self._fd, slot.sealed[:size], self._offset + first * SEALED_SIZE)
        if slot.used is not None:
            self._copies.wait(slot.used)
        self._device.upload(slot.on_device, slot.sealed[:size], self._copies)
        slot.copied = self._copies.record()
        self._device.main.wait(slot.copied)
        self._verify(slot, first, chunks, size)
        slot.index = index
        return slot

    def _verify(self, slot: _Slot, first: int, chunks: int, size: int) -> None:
        device, main = self._device, self._device.main
        device.launch(
            sealed_launches.one_time_keys(chunks),
            main,
            keys=slot.keys,
            key=self._key.address,
            first=first,
            last=self._count - 1,
            count=chunks,
        )
        device.launch(
            sealed_launches.verify_chunks(chunks),
            main,
            refused=slot.refused,
            sealed=slot.on_device,
            keys=slot.keys,
            count=chunks,
            size=size,
        )
        device.clear(slot.keys, chunks * _ONE_TIME_KEY, main)
        device.download(slot.verdicts[: chunks * _WORD], slot.refused, main)
        slot.used = main.record()

    def _decrypt(self, slot: _Slot, plain: int, begin: int, size: int) -> None:
        self._device.launch(
            sealed_launches.open_segment(begin, size),
            self._device.main,
            plain=plain,
            sealed=slot.on_device,
            refused=slot.refused,
            key=self._key.address,
            first=slot.index * self._slice_chunks,
            last=self._count - 1,
            begin=begin,
            size=size,
        )
        slot.used = self._device.main.record()

    def _settle(self, slot: _Slot) -> None:
        """Wait for all that was queued with a slot; raises IntegrityError naming the first chunk refused."""
        if slot.used is None:
            return
        slot.used.synchronize()
        if slot.index < 0:
            return
        first = slot.index * self._slice_chunks
        chunks = min(self._slice_chunks, self._count - first)
        refused = np.flatnonzero(np.frombuffer(slot.verdicts[: chunks * _WORD], np.uint32))
        if refused.size:
            chunk = first + int(refused[0])
            raise IntegrityError(
                f"payload: chunk {chunk} does not fit its tag; it was altered, cut or moved, or the key is "
                "another object's; the destination on the device was zeroed",
                chunk=chunk,
            )

    def _slot(self) -> _Slot:
        chunks = self._slice_chunks
        return _Slot(
            sealed=self._device.pinned(chunks * SEALED_SIZE),
            verdicts=self._device.pinned(chunks * _WORD),
            on_device=self._take(chunks * SEALED_SIZE),
            refused=self._take(chunks * _WORD),
            keys=self._take(chunks * _ONE_TIME_KEY),
        )

    def _take(self, size: int) -> int:
        self._taken.append(self._device.allocate(size))
        return self._taken[-1]
