"""HKDF-SHA-256 with a 32-byte result that can be wiped: the only key derivation of the format (RFC 5869)."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_SIZE = 32


def hkdf_sha256(secret: bytes | bytearray, salt: bytes, info: bytes) -> bytearray:
    """Extract and expand to 32 bytes. The caller wipes them."""
    key = bytearray(KEY_SIZE)
    HKDF(hashes.SHA256(), KEY_SIZE, salt, info).derive_into(secret, key)
    return key
