"""Whole age files, as streams or in memory: header, nonce, payload in one call.

Streams need only be buffered; memory stays constant. Source: c2sp.org/age, "Encrypted file format".
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import BinaryIO

from appliance.age.chunk import CHUNK_SIZE, payload_key
from appliance.age.header import FILE_KEY_SIZE, NONCE_SIZE, read_header
from appliance.age.identity import Identity, Recipient
from appliance.age.recipients import encode_header, unwrap_file_key
from appliance.age.stream import RUN, PayloadWriter, decrypt_stream, pieces
from appliance.errors import IntegrityError


def encrypt(source: io.BufferedIOBase, target: BinaryIO, recipients: Sequence[Recipient]) -> int:
    """Seal all of `source` to the recipients; returns the plaintext size. Raises UsageError."""
    file_key = bytearray(os.urandom(FILE_KEY_SIZE))
    header = encode_header(file_key, recipients)
    nonce = os.urandom(NONCE_SIZE)
    key = payload_key(file_key, nonce)
    target.write(header + nonce)
    with PayloadWriter(target.write, key) as payload:
        for piece, _ in pieces(source.readinto, RUN * CHUNK_SIZE):
            payload.write(piece)
    _wipe(file_key, key)
    return payload.size


def decrypt(source: io.BufferedIOBase, target: BinaryIO, identities: Sequence[Identity]) -> int:
    """Open one age file; returns the plaintext size. On any error discard what was written.

    Raises WrongSecret when none of the identities fits, IntegrityError for damage anywhere.
    """
    return _decrypt(source, target.write, identities)


def seal_bytes(plaintext: bytes | bytearray, recipients: Sequence[Recipient]) -> bytes:
    """Return a whole age file that holds `plaintext`; for small secrets."""
    target = io.BytesIO()
    file_key = bytearray(os.urandom(FILE_KEY_SIZE))
    nonce = os.urandom(NONCE_SIZE)
    key = payload_key(file_key, nonce)
    target.write(encode_header(file_key, recipients) + nonce)
    with PayloadWriter(target.write, key) as payload:
        payload.write(plaintext)  # straight from the caller's buffer, which the caller can wipe
    _wipe(file_key, key)
    return target.getvalue()


def open_bytes(sealed: bytes, identities: Sequence[Identity]) -> bytearray:
    """Return the plaintext of a whole age file in one buffer that the caller wipes; errors as `decrypt`."""
    out = bytearray(len(sealed))
    filled = 0

    def collect(data: memoryview) -> None:
        nonlocal filled
        out[filled : filled + len(data)] = data
        filled += len(data)

    try:
        _decrypt(io.BytesIO(sealed), collect, identities)
    except BaseException:
        _wipe(out)
        raise
    del out[filled:]
    return out


def _decrypt(
    source: io.BufferedIOBase, write: Callable[[memoryview], object], identities: Sequence[Identity]
) -> int:
    file_key = unwrap_file_key(read_header(source), identities)
    nonce = source.read(NONCE_SIZE)
    if len(nonce) != NONCE_SIZE:
        raise IntegrityError(
            f"age file: expected a nonce of {NONCE_SIZE} bytes, found the end after {len(nonce)}"
        )
    key = payload_key(file_key, nonce)
    try:
        return decrypt_stream(source.readinto, key, write)
    finally:
        _wipe(file_key, key)


def _wipe(*buffers: bytearray) -> None:
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))
