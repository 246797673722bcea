"""The worker's side of its one channel: sealed inputs in, sealed outputs out, numbers about both.

The worker has no path, no socket and no key but those that arrive here. A key arrives on a pipe, lives in
a bytearray and is overwritten when its reader or writer closes.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from appliance.age import PayloadReader, PayloadWriter, descriptor_sink
from appliance.errors import IntegrityError, ProtocolError, SpaceExhausted, by_code
from appliance.messages import Channel
from appliance.worklink import (
    PAYLOAD_KEY_BYTES,
    TO_WORKER,
    Begin,
    GiveFile,
    GiveInput,
    GiveOutput,
    OpenPart,
    Proceed,
    Refused,
    Sealed,
    Stop,
    WantInput,
    WantOutput,
)

_M = TypeVar("_M")


def read_key(descriptor: int) -> bytearray:
    """Read one payload key from its pipe and close it; raises IntegrityError on any other length."""
    key = bytearray(PAYLOAD_KEY_BYTES + 1)
    filled = 0
    view = memoryview(key)
    try:
        while filled < len(key):
            count = os.readv(descriptor, [view[filled:]])
            if count == 0:
                break
            filled += count
    finally:
        view.release()
        os.close(descriptor)
    if filled != PAYLOAD_KEY_BYTES:
        raise IntegrityError(f"a key pipe held {filled} bytes, expected {PAYLOAD_KEY_BYTES}")
    del key[PAYLOAD_KEY_BYTES:]
    return key


@dataclass(frozen=True, slots=True)
class SealedInput:
    """One granted object: its payload, and the key that opens it."""

    role: str
    kind: str
    descriptor: int
    offset: int
    length: int
    key: bytearray

    def reader(self) -> PayloadReader:
        """Open the payload: a stream from its first byte, and an `Opener`."""
        return PayloadReader(self.descriptor, self.key, self.offset, self.length)

    def close(self) -> None:
        """Close the payload and overwrite the key."""
        os.close(self.descriptor)
        self.key[:] = bytes(len(self.key))


class SealedOutput:
    """One new object, sealed as it is written; plaintext never leaves memory."""

    def __init__(self, channel: Channel, token: int, descriptor: int, key: bytearray) -> None:
        self.token = token
        self.size_bytes = 0
        self._channel = channel
        self._descriptor = descriptor
        self._key = key
        self._writer = PayloadWriter(descriptor_sink(descriptor), key)

    def seal_from(self, buffer: bytes | bytearray | memoryview) -> None:
        """Seal the buffer's bytes behind those before; a large one on all cores (`Sealer`)."""
        self.size_bytes += self._writer.write(buffer)

    def close(self) -> None:
        """Seal the last chunk, make it durable and tell the custodian."""
        self._writer.close()
        try:
            os.fsync(self._descriptor)
        except OSError as broken:
            if broken.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SpaceExhausted("the medium is full: the new object was dropped") from broken
            raise
        os.close(self._descriptor)
        self._key[:] = bytes(len(self._key))
        self._channel.send(Sealed(self.token, self.size_bytes))


class Port:
    """Requests and answers of one worker, in order; a `Stop` is remembered whenever it arrives.

    One thread may ask and wait for answers while another sends numbers and looks for a `Stop`.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._stop = False
        self._waiting: deque[tuple[object, tuple[int, ...]]] = deque()
        self._reading = threading.Lock()
        self.bytes_given = 0
        """Sealed bytes of all objects that were handed over for reading."""

    def send(self, message: object) -> None:
        """Send one message without descriptors."""
        self.channel.send(message)

    def receive(self) -> tuple[object, tuple[int, ...]]:
        """Return the next message but `Stop`, with its descriptors; EOFError when the custodian is gone."""
        with self._reading:
            while not self._waiting:
                message, descriptors = self.channel.receive(TO_WORKER)
                self._sort(message, descriptors)
            return self._waiting.popleft()

    def expect(self, kind: type[_M]) -> tuple[_M, tuple[int, ...]]:
        """Return the next message, which must be of `kind`; a refusal is raised as the error it names."""
        message, descriptors = self.receive()
        if isinstance(message, Refused):
            error = by_code().get(message.code, ProtocolError)
            raise error("the custodian refused what the task asked for")
        if not isinstance(message, kind):
            raise ProtocolError(
                f"expected {kind.__name__} from the custodian, found {type(message).__name__}"
            )
        return message, descriptors

    def stop_requested(self) -> bool:
        """Say whether a `Stop` has arrived, without waiting; a thread that waits for answers notes it too."""
        if self._reading.acquire(blocking=False):
            try:
                while (received := self.channel.try_receive(TO_WORKER)) is not None:
                    self._sort(*received)
            finally:
                self._reading.release()
        return self._stop

    def begin(self) -> Begin:
        """Return the task."""
        return self.expect(Begin)[0]

    def inputs(self) -> dict[str, SealedInput]:
        """Collect granted objects by role until `Proceed`."""
        found: dict[str, SealedInput] = {}
        while True:
            message, descriptors = self.receive()
            if isinstance(message, Proceed):
                return found
            if not isinstance(message, GiveInput):
                raise ProtocolError(f"expected GiveInput or Proceed, found {type(message).__name__}")
            found[message.role] = self._sealed_input(message, descriptors)

    def files(self) -> dict[str, bytes]:
        """Collect small files that the custodian made, by name, until `Proceed`."""
        found: dict[str, bytes] = {}
        while True:
            message, descriptors = self.receive()
            if isinstance(message, Proceed):
                return found
            if not isinstance(message, GiveFile):
                raise ProtocolError(f"expected GiveFile or Proceed, found {type(message).__name__}")
            found[message.name] = _read_file(message, descriptors)

    def file(self, name: str) -> bytes:
        """Return the one small file that the custodian sends next; raises ProtocolError for another name."""
        message, descriptors = self.expect(GiveFile)
        data = _read_file(message, descriptors)
        if message.name != name:
            raise ProtocolError(f"expected the file {name}, found {message.name}")
        return data

    def parts(self) -> Iterator[PayloadReader]:
        """Yield a reader of each part of a bundle that arrives, in order, until `Proceed`."""
        while True:
            message, descriptors = self.receive()
            if isinstance(message, Proceed):
                return
            if not isinstance(message, OpenPart):
                raise ProtocolError(f"expected OpenPart or Proceed, found {type(message).__name__}")
            descriptor, key_pipe = descriptors
            reader = PayloadReader(descriptor, read_key(key_pipe), message.offset, message.length)
            yield reader
            reader.wipe()
            os.close(descriptor)

    def want_input(self, kind: str, name: str) -> SealedInput:
        """Ask for the newest object of this kind and name."""
        self.send(WantInput(kind, name))
        return self._sealed_input(*self.expect(GiveInput))

    def want_output(self, kind: str, name: str) -> SealedOutput:
        """Ask for room for a new object."""
        self.send(WantOutput(kind, name))
        answer, (descriptor, key_pipe) = self.expect(GiveOutput)
        return SealedOutput(self.channel, answer.token, descriptor, read_key(key_pipe))

    def _sealed_input(self, message: GiveInput, descriptors: tuple[int, ...]) -> SealedInput:
        payload, key_pipe = descriptors
        self.bytes_given += message.length
        return SealedInput(
            message.role, message.object_kind, payload, message.offset, message.length, read_key(key_pipe)
        )

    def _sort(self, message: object, descriptors: tuple[int, ...]) -> None:
        if isinstance(message, Stop):
            self._stop = True
        else:
            self._waiting.append((message, descriptors))


def _read_file(message: GiveFile, descriptors: tuple[int, ...]) -> bytes:
    """Read exactly the announced bytes; raises IntegrityError where the file is shorter or longer."""
    (descriptor,) = descriptors
    try:
        data = b""
        while len(data) <= message.size_bytes:
            more = os.pread(descriptor, message.size_bytes + 1 - len(data), len(data))
            if not more:
                break
            data += more
    finally:
        os.close(descriptor)
    if len(data) != message.size_bytes:
        raise IntegrityError(
            f"{message.name}: expected {message.size_bytes} bytes, found another number; repeat"
        )
    return data
