"""The post-quantum recipient, `age1pq1…`: ML-KEM-768 with X25519 in HPKE, safe while either of the two holds.

Both private keys come from one 32-byte seed by SHAKE-256. Source: c2sp.org/age, "mlkem768x25519"; RFC 9180
(base mode, HKDF-SHA-256, ChaCha20-Poly1305); FIPS 203.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from appliance.age import bech32
from appliance.age.header import Stanza, encode_base64
from appliance.age.identity import SECRET_SIZE, Identity
from appliance.age.x25519 import refuse_low_order
from appliance.errors import IntegrityError, UsageError

_INFO = b"age-encryption.org/mlkem768x25519"
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_LATTICE_PUBLIC_SIZE = 1184
_LATTICE_SEED_SIZE = 64
_LATTICE_SHARE_SIZE = 1088
_SHARE_SIZE = _LATTICE_SHARE_SIZE + 32
PUBLIC_SIZE = _LATTICE_PUBLIC_SIZE + 32


@dataclass(frozen=True, slots=True)
class HybridRecipient:
    """An `age1pq1…` public key: 1,184 bytes of ML-KEM-768, then 32 of X25519."""

    public: bytes
    post_quantum: ClassVar[bool] = True

    @property
    def text(self) -> str:
        """The `age1pq1…` string, about two thousand characters."""
        return bech32.encode("age1pq", self.public).decode("ascii")

    def wrap(self, file_key: bytes | bytearray) -> Stanza:
        """Wrap the file key with HPKE in base mode (RFC 9180 section 6.1)."""
        public = hpke.MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.public[:_LATTICE_PUBLIC_SIZE]),
            X25519PublicKey.from_public_bytes(self.public[_LATTICE_PUBLIC_SIZE:]),
        )
        sealed = _SUITE.encrypt(file_key, public, info=_INFO)
        split = _SHARE_SIZE
        return Stanza(("mlkem768x25519", encode_base64(sealed[:split]).decode("ascii")), sealed[split:])


class HybridIdentity(Identity):
    """An `AGE-SECRET-KEY-PQ-1…` secret: a 32-byte seed that SHAKE-256 expands to both private keys."""

    __slots__ = ()

    kind = "mlkem768x25519"
    prefix = "age-secret-key-pq-"

    @classmethod
    def generate(cls) -> HybridIdentity:
        """Make a new identity from the kernel's randomness."""
        return cls(bytearray(os.urandom(SECRET_SIZE)))

    @property
    def recipient(self) -> HybridRecipient:
        """The public half."""
        lattice, curve = self._private()
        return HybridRecipient(
            lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        )

    def unwrap(self, stanza: Stanza) -> bytearray | None:
        """Return the file key, or None; raises IntegrityError for a low-order X25519 half of the share."""
        share = stanza.share()
        lattice, curve = self._private()
        private = hpke.MLKEM768X25519PrivateKey(lattice, curve)
        try:
            return bytearray(_SUITE.decrypt(share + stanza.body, private, info=_INFO))
        except InvalidTag:  # also what the library says of a low-order point: the file is bad, not another's
            try:
                curve.exchange(X25519PublicKey.from_public_bytes(share[_LATTICE_SHARE_SIZE:]))
            except ValueError as error:
                raise IntegrityError("age header: a hybrid share holds a low-order point; refused") from error
            return None

    def _private(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = bytearray(hashlib.shake_256(self.secret()).digest(_LATTICE_SEED_SIZE + SECRET_SIZE))
        view = memoryview(expanded)
        lattice = MLKEM768PrivateKey.from_seed_bytes(view[:_LATTICE_SEED_SIZE])
        curve = X25519PrivateKey.from_private_bytes(view[_LATTICE_SEED_SIZE:])
        view[:] = bytes(len(expanded))
        return lattice, curve


def refuse_bad_public(public: bytes) -> None:
    """Raise UsageError for a public key that FIPS 203 or RFC 7748 would refuse later."""
    refuse_low_order(public[_LATTICE_PUBLIC_SIZE:])
    try:
        MLKEM768PublicKey.from_public_bytes(public[:_LATTICE_PUBLIC_SIZE])
    except ValueError as error:
        raise UsageError("recipient refused: its ML-KEM-768 half is not a valid public key") from error
