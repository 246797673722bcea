"""The OpenSSH public keys that an officer may sign with, and how each kind verifies.

Ed25519, ECDSA on P-256, and both as held by a hardware token (`sk-`). Nothing else parses: an RSA key or a
certificate is refused by name, so that no weaker signature can count. A token's signature counts only when it
says that somebody touched the token (user presence).

Sources: RFC 8709 (ssh-ed25519), RFC 5656 section 3 (ecdsa-sha2-nistp256), OpenSSH PROTOCOL.u2f (sk- keys).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from policy.errors import Malformed, SignatureInvalid
from policy.wire import Reader, encode_string

ED25519: Final = "ssh-ed25519"
ECDSA: Final = "ecdsa-sha2-nistp256"
SK_ED25519: Final = "sk-ssh-ed25519@openssh.com"
SK_ECDSA: Final = "sk-ecdsa-sha2-nistp256@openssh.com"
KEY_TYPES: Final = (ED25519, ECDSA, SK_ED25519, SK_ECDSA)

# Tuning: the longest of the four is 127 bytes with the application name "ssh:".
MAX_KEY_BYTES: Final = 1024

_CURVE = b"nistp256"
_POINT_BYTES = 65
_USER_PRESENT = 0x01


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key. `application` is empty except on `sk-` keys, where it names the use of the token."""

    type: str
    key: bytes
    application: bytes
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """The name that `ssh-keygen -l` prints: SHA256:… without padding."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return "SHA256:" + digest.rstrip("=")


def parse_public_key(blob: bytes) -> PublicKey:
    """Read a key's wire form; raises Malformed for any other type, size, curve or point."""
    if len(blob) > MAX_KEY_BYTES:
        raise Malformed(f"public key: expected at most {MAX_KEY_BYTES} bytes, found {len(blob)}")
    reader = Reader(blob, "public key")
    name = reader.string().decode("ascii", "replace")
    if name not in KEY_TYPES:
        raise Malformed(f"public key: expected one of {', '.join(KEY_TYPES)}, found {name[:64]!r}")
    key = _read_point(reader) if name in (ECDSA, SK_ECDSA) else _read_ed25519(reader)
    application = reader.string() if name in (SK_ED25519, SK_ECDSA) else b""
    reader.end()
    if name in (SK_ED25519, SK_ECDSA) and not application.startswith(b"ssh:"):
        raise Malformed(f"public key: expected a token's application to begin ssh:, found {application!r}")
    return PublicKey(name, key, application, blob)


def ed25519_key(key32: bytes) -> PublicKey:
    """Return the key of 32 raw bytes; raises Malformed for any other size."""
    return parse_public_key(encode_string(ED25519.encode()) + encode_string(key32))


def verify(key: PublicKey, signature: bytes, message: bytes) -> None:
    """Check a signature in its wire form. Raises Malformed for its form, SignatureInvalid when wrong."""
    reader = Reader(signature, "signature")
    name = reader.string().decode("ascii", "replace")
    if name != key.type:
        raise SignatureInvalid(f"expected a signature of type {key.type}, found {name[:64]!r}")
    value = reader.string()
    if key.application:
        message = _token_message(key, reader, message)
    reader.end()
    if key.type in (ECDSA, SK_ECDSA):
        _verify_ecdsa(key, value, message)
    else:
        _verify_ed25519(key, value, message)


def _read_ed25519(reader: Reader) -> bytes:
    key = reader.string()
    if len(key) != 32:
        raise Malformed(f"public key: expected 32 bytes of Ed25519, found {len(key)}")
    return key


def _read_point(reader: Reader) -> bytes:
    curve, point = reader.string(), reader.string()
    if curve != _CURVE or len(point) != _POINT_BYTES or point[0] != 0x04:
        raise Malformed(
            f"public key: expected an uncompressed point on nistp256, found {len(point)} on {curve!r}"
        )
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise Malformed(
            "public key: expected a point on nistp256, found one that is not on the curve"
        ) from error
    return point


def _token_message(key: PublicKey, reader: Reader, message: bytes) -> bytes:
    """Return what the token signed: PROTOCOL.u2f, "SSH U2F Signatures"."""
    flags, counter = reader.take(1), reader.take(4)
    if not flags[0] & _USER_PRESENT:
        raise SignatureInvalid(
            "expected a token's signature made with a touch (user presence), found one made without; "
            "do not use no-touch-required"
        )
    return hashlib.sha256(key.application).digest() + flags + counter + hashlib.sha256(message).digest()


def _verify_ed25519(key: PublicKey, value: bytes, message: bytes) -> None:
    if len(value) != 64:
        raise Malformed(f"signature: expected 64 bytes of Ed25519, found {len(value)}")
    try:
        VerifyKey(key.key).verify(message, value)
    except BadSignatureError as error:
        raise SignatureInvalid(f"the signature by {key.fingerprint} is not over this message") from error


def _verify_ecdsa(key: PublicKey, value: bytes, message: bytes) -> None:
    reader = Reader(value, "signature")
    r, s = reader.mpint(), reader.mpint()
    reader.end()
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.key)
    try:
        public.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise SignatureInvalid(f"the signature by {key.fingerprint} is not over this message") from error
