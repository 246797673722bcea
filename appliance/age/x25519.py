"""The classical recipient, `age1…`: X25519, HKDF-SHA-256, ChaCha20-Poly1305 under a zero nonce.

A fresh ephemeral key for each stanza makes the wrap key unique, so the nonce may be fixed. A low-order point,
whose secret anybody knows, is refused on both sides. Source: c2sp.org/age, "The X25519 recipient type";
RFC 7748, section 6.1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from appliance.age import bech32
from appliance.age.header import FILE_KEY_SIZE, Stanza, encode_base64
from appliance.age.hkdf import hkdf_sha256
from appliance.age.identity import SECRET_SIZE, Identity
from appliance.errors import IntegrityError, UsageError

PUBLIC_SIZE = 32
_INFO = b"age-encryption.org/v1/X25519"
_ZERO_NONCE = bytes(12)
_ANY_SCALAR = bytes(range(32))  # whatever the scalar, its product with a low-order point is zero


@dataclass(frozen=True, slots=True)
class X25519Recipient:
    """An `age1…` public key, 32 bytes."""

    public: bytes
    post_quantum: ClassVar[bool] = False

    @property
    def text(self) -> str:
        """The `age1…` string."""
        return bech32.encode("age", self.public).decode("ascii")

    def wrap(self, file_key: bytes | bytearray) -> Stanza:
        """Wrap the file key under a fresh ephemeral key; raises UsageError for a low-order public key."""
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        try:
            shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(self.public))
        except ValueError as error:
            raise UsageError("recipient refused: it is a low-order point, which anybody can open") from error
        wrap_key = hkdf_sha256(shared, share + self.public, _INFO)
        body = ChaCha20Poly1305(wrap_key).encrypt(_ZERO_NONCE, file_key, None)
        wrap_key[:] = bytes(len(wrap_key))
        return Stanza(("X25519", encode_base64(share).decode("ascii")), body)


class X25519Identity(Identity):
    """An `AGE-SECRET-KEY-1…` secret; its public half is computed once."""

    __slots__ = ("_recipient",)

    kind = "X25519"
    prefix = "age-secret-key-"

    def __init__(self, secret: bytes | bytearray) -> None:
        super().__init__(secret)
        self._recipient: X25519Recipient | None = None

    @classmethod
    def generate(cls) -> X25519Identity:
        """Make a new identity from the kernel's randomness."""
        return cls(bytearray(os.urandom(SECRET_SIZE)))

    @property
    def recipient(self) -> X25519Recipient:
        """The public half."""
        return self._recipient_of(self._private())

    def unwrap(self, stanza: Stanza) -> bytearray | None:
        """Return the file key, or None; raises IntegrityError for a low-order share (RFC 7748, 6.1)."""
        share = stanza.share()
        try:
            private = self._private()
            shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError as error:
            raise IntegrityError("age header: an X25519 share is a low-order point; refused") from error
        wrap_key = hkdf_sha256(shared, share + self._recipient_of(private).public, _INFO)
        file_key = bytearray(FILE_KEY_SIZE)
        try:
            ChaCha20Poly1305(wrap_key).decrypt_into(_ZERO_NONCE, stanza.body, None, file_key)
        except InvalidTag:
            return None
        finally:
            wrap_key[:] = bytes(len(wrap_key))
        return file_key

    def _recipient_of(self, private: X25519PrivateKey) -> X25519Recipient:
        if self._recipient is None:
            self._recipient = X25519Recipient(private.public_key().public_bytes_raw())
        return self._recipient

    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.secret())


def refuse_low_order(point: bytes) -> None:
    """Raise UsageError for a public key that everybody holds the secret to."""
    try:
        X25519PrivateKey.from_private_bytes(_ANY_SCALAR).exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError as error:
        raise UsageError("recipient refused: it is a low-order point, which anybody can open") from error
