"""The keyring: the secrets of one appliance, in memory while it is unsealed and nowhere else in the clear.

Guarantee: they live in memory of their own (`secret_memory`) that `wipe` overwrites, and after it every use
raises SealedError. At rest the keyring is the plaintext of a slot, one line of JSON whose identities the
public `age` program takes as they stand. That line is written and parsed by byte position, so that no secret
passes through a string. While the vault's identity is rotated the line holds the next one too, so that a
crash loses neither.

KNOWN: handing the export key to the signing library makes immutable copies inside it; the process that holds
them ends at seal.
"""

from __future__ import annotations

import os
import re
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from appliance.age import HybridIdentity, Identity, X25519Identity, parse_identity
from appliance.custody.secret_memory import SecretMemory
from appliance.errors import IntegrityError, SealedError, UsageError

_HEX = b"0123456789abcdef"
_NIBBLES = {letter: value for value, letter in enumerate(_HEX)}
_RAW_FIELDS = ("bundle_seed", "entry_secret", "export_scalar")
_IDENTITY_FIELDS = ("transfer_identity", "vault_identity")
_NEXT = "next_vault_identity"
_RAW_SIZE = 32
_IDENTITY = b"AGE-SECRET-KEY-[0-9A-Z-]{1,120}"
_MEMORY_SIZE = 16384  # each rotation takes another 32 bytes until the process ends
_LINE = re.compile(
    b"{"
    + b",".join(
        [b'"%s":"(?P<%s>[0-9a-f]{64})"' % (n.encode(), n.encode()) for n in _RAW_FIELDS]
        + [
            b'(?:"%s":"(?P<%s>%s)",)?"%s":"(?P<%s>%s)"'
            % (
                *(_NEXT.encode(), _NEXT.encode(), _IDENTITY),
                *(_IDENTITY_FIELDS[0].encode(), _IDENTITY_FIELDS[0].encode(), _IDENTITY),
            )
        ]
        + [b'"%s":"(?P<%s>%s)"' % (n.encode(), n.encode(), _IDENTITY) for n in _IDENTITY_FIELDS[1:]]
    )
    + b',"version":1}\n'
)


class Keyring:
    """Vault and transfer identity, bundle signing seed, entry secret and export key of one appliance."""

    __slots__ = ("_identities", "_memory", "_raw")

    def __init__(self, raw: dict[str, bytearray], identities: dict[str, Identity]) -> None:
        """Take the secrets over: what `raw` and the identities held them in is overwritten."""
        self._memory = SecretMemory(_MEMORY_SIZE)
        self._raw: dict[str, memoryview] | None = {
            name: self._memory.take(buffer) for name, buffer in raw.items()
        }
        self._identities = identities
        for identity in identities.values():
            identity.move(self._memory.take)

    def __repr__(self) -> str:
        return "<Keyring>"

    @classmethod
    def generate(cls, *, hybrid: bool = False) -> Self:
        """Make all keys anew from the kernel's randomness; `hybrid` makes both identities post-quantum."""
        kind = HybridIdentity if hybrid else X25519Identity
        scalar = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        return cls(
            {
                "bundle_seed": bytearray(os.urandom(_RAW_SIZE)),
                "entry_secret": bytearray(os.urandom(_RAW_SIZE)),
                "export_scalar": bytearray(scalar.to_bytes(_RAW_SIZE, "big")),
            },
            {name: kind.generate() for name in _IDENTITY_FIELDS},
        )

    @property
    def vault_identity(self) -> Identity:
        """Opens every object in the vault; never a recipient of transfer bundles."""
        self._live()
        return self._identities["vault_identity"]

    @property
    def next_vault_identity(self) -> Identity | None:
        """What the vault's identity becomes when the rotation that is under way ends; None without one."""
        self._live()
        return self._identities.get(_NEXT)

    def prepare_rotation(self) -> Identity:
        """Make the next vault identity, of the same kind; it is kept beside the present one."""
        kind = HybridIdentity if self.vault_identity.recipient.post_quantum else X25519Identity
        made = kind.generate()
        made.move(self._memory.take)
        self._identities[_NEXT] = made
        return made

    def drop_rotation(self) -> None:
        """Forget a next vault identity to which nothing was wrapped."""
        dropped = self._identities.pop(_NEXT, None)
        if dropped is not None:
            dropped.wipe()

    def end_rotation(self) -> None:
        """Let the next vault identity be the vault's, and destroy the former; both must be there."""
        self.vault_identity.wipe()
        self._identities["vault_identity"] = self._identities.pop(_NEXT)

    @property
    def transfer_identity(self) -> Identity:
        """Opens the parts of bundles that are addressed to this appliance."""
        self._live()
        return self._identities["transfer_identity"]

    @property
    def memory_kind(self) -> str:
        """How the memory is protected: `memfd_secret` or `mlock`."""
        return self._memory.kind

    @property
    def bundle_seed(self) -> memoryview:
        """The Ed25519 seed that signs outgoing bundle manifests; live, not a copy."""
        return self._live()["bundle_seed"]

    @property
    def entry_secret(self) -> memoryview:
        """The secret behind the commitments in log entries; live, not a copy."""
        return self._live()["entry_secret"]

    def export_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the P-256 key that signs exported models."""
        return ec.derive_private_key(int.from_bytes(self._live()["export_scalar"], "big"), ec.SECP256R1())

    def export_key_pem(self) -> bytes:
        """Return the export key as unencrypted PKCS #8 PEM, for a library that takes nothing else."""
        return self.export_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def export_public_pem(self) -> bytes:
        """Return the export key's public half as PEM."""
        return self.export_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def wipe(self) -> None:
        """Overwrite every secret; afterwards each use raises SealedError."""
        self._raw = None
        for identity in tuple(self._identities.values()):  # a rotation may add one meanwhile
            identity.wipe()
        self._memory.wipe()

    def encode(self) -> bytearray:
        """Return the one-line JSON for a slot; the caller wipes it."""
        out = bytearray(b"{")
        for name, buffer in self._live().items():
            out += b'"%s":"' % name.encode("ascii")
            out.extend(_HEX[nibble] for byte in buffer for nibble in (byte >> 4, byte & 15))
            out += b'",'
        for name, identity in sorted(self._identities.items()):
            text = identity.encode()
            out += b'"%s":"' % name.encode("ascii") + text + b'",'
            text[:] = bytes(len(text))
        out += b'"version":1}\n'
        return out

    def _live(self) -> dict[str, memoryview]:
        if self._raw is None:
            raise SealedError("the keyring was wiped from memory; unseal the vault to use it again")
        return self._raw


def parse_keyring(data: bytearray) -> Keyring:
    """Parse what `encode` wrote, and nothing else; raises IntegrityError. The caller wipes `data`."""
    line = _LINE.fullmatch(data)
    if line is None:
        raise IntegrityError("keyring: expected its one canonical line of JSON, found something else")
    view = memoryview(data)
    raw = {name: _unhex(view[line.start(name) : line.end(name)]) for name in _RAW_FIELDS}
    identities: dict[str, Identity] = {}
    for name in (*_IDENTITY_FIELDS, _NEXT):
        if line.start(name) < 0:  # asking for the group itself would make an immutable copy
            continue
        text = bytearray(view[line.start(name) : line.end(name)])
        try:
            identities[name] = parse_identity(text)
        except UsageError as error:
            raise IntegrityError(f"keyring, {name}: {error}") from error
        finally:
            text[:] = bytes(len(text))
    view.release()
    keyring = Keyring(raw, identities)
    try:
        keyring.export_key()
    except ValueError as error:
        raise IntegrityError("keyring, export_scalar: expected a P-256 private key, found none") from error
    return keyring


def _unhex(text: memoryview) -> bytearray:
    out = bytearray()
    for i in range(0, len(text), 2):
        out.append(_NIBBLES[text[i]] << 4 | _NIBBLES[text[i + 1]])
    return out
