r"""The post-quantum line: ML-DSA-44 signatures over tree heads, beside the Ed25519 ones.

Guarantees whoever demands the line that the head was also signed by a key that no quantum computer derives
from its public half. Nothing here is needed where nobody demands it: the package `cryptography` is imported
when the first key is used, and not before.

    blob    = uint64 big-endian seconds || signature[2420]
    message = "subtree/v1\n\0" || name<1..255> || uint64 seconds || origin<1..255>
              || uint64 start (0) || uint64 end (the tree's size) || root[32]

Source: C2SP tlog-cosignature v1.1.0-rc.1, "ML-DSA-44 signed message"; FIPS 204. Signing is randomised.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

from audit.errors import BadSignature, CouldNotCheck, Malformed

MLDSA44 = 0x06
PUBLIC_BYTES = 1312
SEED_BYTES = 32
_SIGNATURE_BYTES = 2420
_LABEL = b"subtree/v1\n\0"
_MAX_SECONDS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class MldsaKey:
    """An ML-DSA-44 signing key; `seed` is its 32 bytes (FIPS 204, key generation), copied, never shown."""

    seed: bytes | bytearray = field(repr=False, compare=False)
    _key: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise Malformed(f"ML-DSA-44 key: expected a seed of {SEED_BYTES} bytes, found {len(self.seed)}")
        object.__setattr__(self, "_key", _module().MLDSA44PrivateKey.from_seed_bytes(bytes(self.seed)))

    @property
    def public_key(self) -> bytes:
        """The public half, 1312 bytes."""
        public: bytes = self._key.public_key().public_bytes_raw()
        return public

    def sign(self, name: str, seconds: int, text: str) -> bytes:
        """Sign a tree head's text as of a Unix time; returns what follows the key id in a signature line."""
        signature: bytes = self._key.sign(head_message(name, seconds, text))
        return seconds.to_bytes(8, "big") + signature


def verify_head_text(name: str, public_key: bytes, text: str, blob: bytes) -> None:
    """Check what follows the key id in a line of type 0x06; raises BadSignature, CouldNotCheck."""
    if len(blob) != 8 + _SIGNATURE_BYTES:
        raise BadSignature(
            f"ML-DSA-44 signature by {name}: expected {8 + _SIGNATURE_BYTES} bytes, found {len(blob)}"
        )
    module = _module()
    message = head_message(name, int.from_bytes(blob[:8], "big"), text)
    try:
        module.MLDSA44PublicKey.from_public_bytes(public_key).verify(blob[8:], message)
    except Exception as failure:  # the library's own class, which cannot be named without importing it
        raise BadSignature(f"ML-DSA-44 signature by {name} does not fit the tree head") from failure


def head_message(name: str, seconds: int, text: str) -> bytes:
    """Return the bytes that are signed for a head of three lines; raises BadSignature where it is none."""
    lines = text.split("\n")
    try:
        origin, size, root = lines[0].encode(), int(lines[1]), base64.b64decode(lines[2], validate=True)
        if not 0 <= seconds <= _MAX_SECONDS or len(root) != 32:
            raise ValueError("out of range")
        whole = _LABEL + _opaque(name.encode()) + seconds.to_bytes(8, "big") + _opaque(origin)
        return whole + bytes(8) + size.to_bytes(8, "big") + root
    except (ValueError, IndexError, OverflowError, binascii.Error) as failure:
        raise BadSignature(
            f"ML-DSA-44 signature by {name}: expected a tree head of three lines under it, and a time"
        ) from failure


def _opaque(data: bytes) -> bytes:
    return bytes([len(data)]) + data  # ValueError above 255


def _module() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415  only where it is used
    except ImportError as failure:
        raise CouldNotCheck(
            "ML-DSA-44: needs the package `cryptography`, version 50 or newer, which the rest of this "
            "program does without; install it, or leave out the post-quantum key"
        ) from failure
    return mldsa
