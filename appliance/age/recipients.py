"""Who can open an age file: native recipients wrap the file key, identities unwrap it.

Two kinds, never mixed on one file, since one classical stanza would undo what the post-quantum ones give:
`X25519` (`age1…`) and `mlkem768x25519` (`age1pq1…`, ML-KEM-768 with X25519 in HPKE). A stanza that is damaged
ends the attempt; one that is meant for somebody else is passed over. Source: c2sp.org/age, "Native recipient
types"; RFC 7748; RFC 9180.

KNOWN: the libraries return shared secrets and HPKE plaintexts as immutable bytes, which cannot be wiped here;
the process that holds an identity ends when the vault is sealed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from appliance.age import bech32
from appliance.age.header import FILE_KEY_SIZE, Header, Stanza, build_header, encode_base64, verify_mac
from appliance.age.hkdf import hkdf_sha256
from appliance.errors import IntegrityError, SealedError, UsageError, WrongSecret

SECRET_SIZE = 32
"""Bytes of every native identity, of either kind."""

_X25519_INFO = b"age-encryption.org/v1/X25519"
_HYBRID_INFO = b"age-encryption.org/mlkem768x25519"
_HYBRID_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
_MLKEM_PUBLIC_SIZE = 1184
_MLKEM_SEED_SIZE = 64
_MLKEM_CIPHERTEXT_SIZE = 1088
_SHARE_SIZE = 32
_ZERO_NONCE = bytes(12)
_CANARY_SCALAR = bytes(range(32))  # any fixed scalar shows a low-order point: the product is zero


class Recipient(Protocol):
    """A public key that a file can be sealed to."""

    @property
    def post_quantum(self) -> bool:
        """Whether the wrap holds against a quantum computer."""

    @property
    def text(self) -> str:
        """The `age1…` string."""

    def wrap(self, file_key: bytes | bytearray) -> Stanza:
        """Wrap a 16-byte file key under a fresh ephemeral key."""


class Identity:
    """A 32-byte secret that opens files; after `wipe` every use raises SealedError."""

    __slots__ = ("_secret",)

    kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, secret: bytes | bytearray) -> None:
        if len(secret) != SECRET_SIZE:
            raise UsageError(f"identity refused: expected {SECRET_SIZE} bytes, found {len(secret)}")
        self._secret: bytearray | None = bytearray(secret)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        raise NotImplementedError

    def unwrap(self, stanza: Stanza) -> bytearray | None:
        """Return the file key of one stanza of this kind, None when it was wrapped for somebody else."""
        raise NotImplementedError

    def encode(self) -> bytearray:
        """Return the identity's text, `AGE-SECRET-KEY-…`, as ASCII that the caller wipes."""
        lower = bech32.encode(self.prefix, self.secret())
        text = lower.upper()
        lower[:] = bytes(len(lower))
        return text

    def secret(self) -> bytearray:
        """Return the live 32 bytes, not a copy; raises SealedError after `wipe`."""
        if self._secret is None:
            raise SealedError("this identity was wiped from memory; unseal the vault to use it again")
        return self._secret

    def wipe(self) -> None:
        """Overwrite the secret."""
        if self._secret is not None:
            self._secret[:] = bytes(SECRET_SIZE)
            self._secret = None


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
        wrap_key = hkdf_sha256(shared, share + self.public, _X25519_INFO)
        body = ChaCha20Poly1305(wrap_key).encrypt(_ZERO_NONCE, file_key, None)
        wrap_key[:] = bytes(len(wrap_key))
        return Stanza(("X25519", encode_base64(share).decode("ascii")), body)


class X25519Identity(Identity):
    """An `AGE-SECRET-KEY-1…` secret."""

    __slots__ = ()

    kind = "X25519"
    prefix = "age-secret-key-"

    @classmethod
    def generate(cls) -> X25519Identity:
        """Make a new identity from the kernel's randomness."""
        return cls(bytearray(os.urandom(SECRET_SIZE)))

    @property
    def recipient(self) -> X25519Recipient:
        """The public half."""
        return X25519Recipient(self._private().public_key().public_bytes_raw())

    def unwrap(self, stanza: Stanza) -> bytearray | None:
        """Return the file key, or None; raises IntegrityError for a low-order share (RFC 7748, 6.1)."""
        share = stanza.share()
        try:
            shared = self._private().exchange(X25519PublicKey.from_public_bytes(share))
        except ValueError as error:
            raise IntegrityError("age header: an X25519 share is a low-order point; refused") from error
        wrap_key = hkdf_sha256(shared, share + self.recipient.public, _X25519_INFO)
        file_key = bytearray(FILE_KEY_SIZE)
        try:
            ChaCha20Poly1305(wrap_key).decrypt_into(_ZERO_NONCE, stanza.body, None, file_key)
        except InvalidTag:
            return None
        finally:
            wrap_key[:] = bytes(len(wrap_key))
        return file_key

    def _private(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self.secret())


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
            MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC_SIZE]),
            X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC_SIZE:]),
        )
        sealed = _HYBRID_SUITE.encrypt(file_key, public, info=_HYBRID_INFO)
        split = _MLKEM_CIPHERTEXT_SIZE + _SHARE_SIZE
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
        try:
            curve.exchange(X25519PublicKey.from_public_bytes(share[_MLKEM_CIPHERTEXT_SIZE:]))
        except ValueError as error:
            raise IntegrityError("age header: a hybrid share holds a low-order point; refused") from error
        private = hpke.MLKEM768X25519PrivateKey(lattice, curve)
        try:
            return bytearray(_HYBRID_SUITE.decrypt(share + stanza.body, private, info=_HYBRID_INFO))
        except InvalidTag:
            return None

    def _private(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = bytearray(hashlib.shake_256(self.secret()).digest(_MLKEM_SEED_SIZE + SECRET_SIZE))
        view = memoryview(expanded)
        lattice = MLKEM768PrivateKey.from_seed_bytes(view[:_MLKEM_SEED_SIZE])
        curve = X25519PrivateKey.from_private_bytes(view[_MLKEM_SEED_SIZE:])
        view[:] = bytes(len(expanded))
        return lattice, curve


def encode_header(file_key: bytes | bytearray, recipients: Sequence[Recipient]) -> bytes:
    """Return the header that wraps a 16-byte file key to every recipient.

    Raises UsageError for none, or for a mix of classical and post-quantum ones.
    """
    if len(file_key) != FILE_KEY_SIZE:
        raise UsageError(f"file key refused: expected {FILE_KEY_SIZE} bytes, found {len(file_key)}")
    if not recipients:
        raise UsageError("nobody could open this: expected at least one recipient, found none")
    if len({recipient.post_quantum for recipient in recipients}) > 1:
        raise UsageError(
            "recipients refused: expected only classical (age1…) or only post-quantum ones (age1pq1…), found "
            "both; a classical stanza would undo what the others protect"
        )
    return build_header(file_key, tuple(recipient.wrap(file_key) for recipient in recipients))


def unwrap_file_key(header: Header, identities: Sequence[Identity]) -> bytearray:
    """Return the 16-byte file key, after checking the header's MAC; the caller wipes it.

    Raises WrongSecret when no stanza is meant for these identities, IntegrityError when a native stanza or
    the MAC is damaged.
    """
    for stanza in header.stanzas:
        for identity in identities:
            file_key = identity.unwrap(stanza) if identity.kind == stanza.kind else None
            if file_key is not None:
                verify_mac(header, file_key)
                return file_key
    raise WrongSecret(
        f"no match: expected a stanza for one of {len(identities)} identities, found {len(header.stanzas)} "
        "for others; use the identity that this was sealed to"
    )


def parse_recipient(text: str) -> Recipient:
    """Parse an `age1…` or `age1pq1…` string; raises UsageError."""
    try:
        prefix, data = bech32.decode(text.encode("ascii"))
    except UnicodeEncodeError as error:
        raise UsageError("recipient refused: expected age1…, found a character outside ASCII") from error
    public = bytes(data)
    if prefix == "age" and len(public) == _SHARE_SIZE and text.islower():
        _refuse_low_order(public)
        return X25519Recipient(public)
    if prefix == "age1pq" and len(public) == _MLKEM_PUBLIC_SIZE + _SHARE_SIZE and text.islower():
        _refuse_low_order(public[_MLKEM_PUBLIC_SIZE:])
        _refuse_bad_lattice(public[:_MLKEM_PUBLIC_SIZE])
        return HybridRecipient(public)
    raise UsageError(
        f"recipient refused: expected age1… or age1pq1… in lower case, found prefix {prefix!r} and "
        f"{len(public)} bytes; scrypt, ssh and plugin recipients are not supported"
    )


def _refuse_low_order(point: bytes) -> None:
    try:
        X25519PrivateKey.from_private_bytes(_CANARY_SCALAR).exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError as error:
        raise UsageError("recipient refused: it is a low-order point, which anybody can open") from error


def _refuse_bad_lattice(public: bytes) -> None:
    try:
        MLKEM768PublicKey.from_public_bytes(public)
    except ValueError as error:
        raise UsageError("recipient refused: its ML-KEM-768 half is not a valid public key") from error


def parse_identity(text: str | bytes | bytearray) -> Identity:
    """Parse one `AGE-SECRET-KEY-…` string, upper case as `age-keygen` writes it; raises UsageError.

    Give a bytearray when the text is to be wiped afterwards; no copy of it stays.
    """
    try:
        raw = bytearray(text, "ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise UsageError("identity refused: expected ASCII, found another character") from error
    if not raw.isupper():
        raise UsageError("identity refused: expected AGE-SECRET-KEY-… in upper case, found something else")
    prefix, secret = bech32.decode(raw)
    try:
        for kind in (X25519Identity, HybridIdentity):
            if kind.prefix == prefix and len(secret) == SECRET_SIZE:
                return kind(secret)
    finally:
        secret[:] = bytes(len(secret))
    raise UsageError(
        "identity refused: expected AGE-SECRET-KEY-1… or AGE-SECRET-KEY-PQ-1…, found another kind of key"
    )


def parse_identity_file(data: bytes | bytearray) -> tuple[Identity, ...]:
    """Parse an identity file as `age-keygen` writes it: one identity a line, `#` comments, blank lines.

    Raises UsageError, naming the line and never its text.
    """
    found: list[Identity] = []
    for number, line in enumerate(bytearray(data).split(b"\n"), 1):
        if not line or line.startswith(b"#"):
            continue
        try:
            found.append(parse_identity(line))
        except UsageError as error:
            raise UsageError(f"identity file, line {number}: {error}") from error
    if not found:
        raise UsageError("identity file: expected a line AGE-SECRET-KEY-…, found none")
    return tuple(found)
