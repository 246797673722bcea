"""The SSH wire encoding of the few values that keys and signatures are made of, and its strict reader.

Guarantees to the parsers above it that a length is checked before anything is copied and that nothing is left
over. Source: RFC 4251 section 5 (byte, uint32, string, mpint); base64 as in RFC 4648 section 4.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from policy.errors import Malformed

_LENGTH_BYTES: Final = 4


def encode_string(value: bytes) -> bytes:
    """Return `value` with its length before it."""
    return len(value).to_bytes(_LENGTH_BYTES, "big") + value


def decode_base64(text: str, what: str) -> bytes:
    """Return the bytes; raises Malformed unless `text` is exactly their one padded encoding."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{what}: expected base64, found {text[:40]!r}") from error
    # Stray low bits in the last character would make a second spelling of the same key or signature.
    if base64.b64encode(data).decode("ascii") != text:
        raise Malformed(f"{what}: expected padded base64 with no spare bits, found it ending {text[-8:]!r}")
    return data


class Reader:
    """Reads values from the front of `data`; every method raises Malformed at the end of it."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def take(self, size_bytes: int) -> bytes:
        """Return the next `size_bytes` bytes."""
        end = self._at + size_bytes
        if end > len(self._data):
            raise Malformed(
                f"{self._what}: expected {size_bytes} bytes at offset {self._at}, "
                f"found {len(self._data) - self._at}; cut short?"
            )
        part = self._data[self._at : end]
        self._at = end
        return part

    def uint32(self) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self.take(_LENGTH_BYTES), "big")

    def string(self) -> bytes:
        """Return the next string."""
        return self.take(self.uint32())

    def mpint(self) -> int:
        """Return the next number, which must be positive and in its shortest form."""
        raw = self.string()
        number = int.from_bytes(raw, "big", signed=True)
        if number <= 0 or raw != number.to_bytes(number.bit_length() // 8 + 1, "big"):
            raise Malformed(
                f"{self._what}: expected a positive number in its shortest form, found {raw.hex()}"
            )
        return number

    def end(self) -> None:
        """Raise Malformed when anything is left."""
        left = len(self._data) - self._at
        if left:
            raise Malformed(f"{self._what}: expected the end at offset {self._at}, found {left} more bytes")
