"""Whole age files, as streams or in memory: header, nonce, payload in one call.

Streams need only be buffered; memory stays constant. Source: c2sp.org/age, "Encrypted file format".
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import BinaryIO

from appliance.age.chunk import CHUNK_SIZE, TAG_SIZE, Lane, payload_key
from appliance.age.header import FILE_KEY_SIZE, NONCE_SIZE, read_header
from appliance.age.identity import Identity, Recipient
from appliance.age.recipients import encode_header, unwrap_file_key
from appliance.age.stream import decrypt_stream, encrypt_stream
from appliance.errors import IntegrityError


def encrypt(source: io.BufferedIOBase, target: BinaryIO, recipients: Sequence[Recipient]) -> int:
    """Seal all of `source` to the recipients; returns the plaintext size. Raises UsageError."""
    begin, key = _begin(recipients)
    target.write(begin)
    try:
        return encrypt_stream(source.readinto, key, target.write)
    finally:
        _wipe(key)


def decrypt(source: io.BufferedIOBase, target: BinaryIO, identities: Sequence[Identity]) -> int:
    """Open one age file; returns the plaintext size. On any error discard what was written.

    Raises WrongSecret when none of the identities fits, IntegrityError for damage anywhere.
    """
    key = _payload_key(source, identities)
    try:
        return decrypt_stream(source.readinto, key, target.write)
    finally:
        _wipe(key)


def seal_bytes(plaintext: bytes | bytearray, recipients: Sequence[Recipient]) -> bytes:
    """Return a whole age file, sealed straight from the caller's buffer; for small secrets."""
    begin, key = _begin(recipients)
    sealed = bytearray(len(plaintext) + max(1, -(-len(plaintext) // CHUNK_SIZE)) * TAG_SIZE)
    Lane(key).seal(0, memoryview(plaintext), memoryview(sealed), final=True)
    _wipe(key)
    return begin + sealed


def open_bytes(sealed: bytes, identities: Sequence[Identity]) -> bytearray:
    """Return the plaintext of a whole age file in one buffer that the caller wipes; errors as `decrypt`."""
    source = io.BytesIO(sealed)
    key = _payload_key(source, identities)
    payload = memoryview(sealed)[source.tell() :]
    out = bytearray(len(payload))
    try:
        del out[Lane(key).open(0, payload, memoryview(out), final=True) :]
    except BaseException:
        _wipe(out)
        raise
    finally:
        _wipe(key)
    return out


def _begin(recipients: Sequence[Recipient]) -> tuple[bytes, bytearray]:
    """Return (header and nonce of a new file, its payload key)."""
    file_key = bytearray(os.urandom(FILE_KEY_SIZE))
    nonce = os.urandom(NONCE_SIZE)
    header = encode_header(file_key, recipients)
    key = payload_key(file_key, nonce)
    _wipe(file_key)
    return header + nonce, key


def _payload_key(source: io.BufferedIOBase, identities: Sequence[Identity]) -> bytearray:
    """Read header and nonce, and return the key of what follows."""
    file_key = unwrap_file_key(read_header(source), identities)
    try:
        nonce = source.read(NONCE_SIZE)
        if len(nonce) != NONCE_SIZE:
            raise IntegrityError(
                f"age file: expected a nonce of {NONCE_SIZE} bytes, found the end after {len(nonce)}"
            )
        return payload_key(file_key, nonce)
    finally:
        _wipe(file_key)


def _wipe(*buffers: bytearray) -> None:
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))
