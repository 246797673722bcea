"""Bech32 as age uses it: short strings for keys that a mistyped letter cannot turn into other keys.

Works on bytearrays, so that an identity can be decoded, used and wiped without ever becoming an immutable
string. Source: BIP-173, without its length limit on the data part (c2sp.org/age, "Conventions").
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from appliance.errors import UsageError

_ALPHABET = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_SIZE = 6

MAX_SIZE = 4096
"""Letters accepted in one string: twice the longest native recipient, 1,959 for `age1pq1…`."""


def encode(prefix: str, data: bytes | bytearray | memoryview) -> bytearray:
    """Encode bytes under a lower-case prefix; the result is lower-case ASCII."""
    values = _to_fives(data)
    expanded = _expand(prefix.encode("ascii"))
    checksum = _polymod(chain(expanded, values, bytes(_CHECKSUM_SIZE))) ^ 1
    out = bytearray(prefix, "ascii")
    out.append(ord("1"))
    out.extend(_ALPHABET[value] for value in values)
    out.extend(_ALPHABET[checksum >> 5 * (5 - i) & 31] for i in range(_CHECKSUM_SIZE))
    _wipe(values)
    return out


def decode(text: bytes | bytearray) -> tuple[str, bytearray]:
    """Return the lower-case prefix and the data of one Bech32 string; the exact inverse of `encode`.

    Raises UsageError for mixed case, a wrong checksum, a stray character or non-zero padding. The message
    never repeats the text: it may be a secret.
    """
    if len(text) > MAX_SIZE:
        raise UsageError(f"key refused: expected at most {MAX_SIZE} characters, found {len(text)}")
    lower = bytearray(text).lower()
    try:
        if lower != text and bytearray(text).upper() != text:
            raise UsageError("key refused: expected all upper or all lower case, found a mix of both")
        return _decode_lower(lower)
    finally:
        _wipe(lower)


def _decode_lower(lower: bytearray) -> tuple[str, bytearray]:
    split = lower.rfind(b"1")
    if split < 1 or len(lower) - split - 1 < _CHECKSUM_SIZE:
        raise UsageError("key refused: expected PREFIX1DATA with six check letters, found no such shape")
    prefix = bytes(lower[:split])
    if any(not 33 <= letter <= 126 for letter in prefix):
        raise UsageError("key refused: expected a printable prefix, found a control character or space")
    values = bytearray()
    try:
        for letter in memoryview(lower)[split + 1 :]:
            if letter not in _VALUES:
                raise UsageError("key refused: expected Bech32 letters after the last 1, found another one")
            values.append(_VALUES[letter])
        if _polymod(chain(_expand(prefix), values)) != 1:
            raise UsageError("key refused: its checksum does not fit, so a letter is mistyped; copy it again")
        return prefix.decode("ascii"), _to_eights(values, len(values) - _CHECKSUM_SIZE)
    finally:
        _wipe(values)


def _expand(prefix: bytes) -> bytes:
    return bytes([letter >> 5 for letter in prefix]) + b"\0" + bytes([letter & 31 for letter in prefix])


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            check ^= generator if top >> bit & 1 else 0
    return check


def _to_fives(data: bytes | bytearray | memoryview) -> bytearray:
    out = bytearray()
    held = bits = 0
    for byte in data:
        held = (held << 8 | byte) & 0xFFF
        bits += 8
        while bits >= 5:
            bits -= 5
            out.append(held >> bits & 31)
    if bits:
        out.append(held << (5 - bits) & 31)
    return out


def _to_eights(values: bytearray, count: int) -> bytearray:
    out = bytearray()
    held = bits = 0
    for value in memoryview(values)[:count]:
        held = (held << 5 | value) & 0xFFF
        bits += 5
        if bits >= 8:
            bits -= 8
            out.append(held >> bits & 255)
    if bits >= 5 or held & ((1 << bits) - 1):
        _wipe(out)
        raise UsageError("key refused: expected zero padding bits, found others; copy it again")
    return out


def _wipe(buffer: bytearray) -> None:
    buffer[:] = bytes(len(buffer))
