"""Bytes in memory behind the pair that training sees of sealed ones: an `Opener` and a `Sealer`."""

from __future__ import annotations


class InMemory:
    """Opens what it was given or what was sealed into it; `reads` lists the ranges asked for."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.reads = []

    @property
    def size(self):
        return len(self.data)

    def open_into(self, buffer, offset):
        assert 0 <= offset <= self.size - len(buffer)
        self.reads.append((offset, len(buffer)))
        buffer[:] = self.data[offset : offset + len(buffer)]

    def seal_from(self, buffer):
        self.data += buffer
