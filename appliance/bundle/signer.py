"""Signer keys: who may vouch for a bundle, as two small text files.

    NAME.key     the secret, readable by its owner only: PRIVATE+KEY+NAME+id+base64(type || seed)
    NAME.vkey    the public half, enrolled with `appliance init --trust-signer`: NAME+id+base64(type || key)

Guarantees to the holder: a key file is created with mode 0600, never overwritten, and refused when others
may read it. Source: C2SP signed-note v1.0.0 for the public line; golang.org/x/mod/sumdb/note for the private
one; OpenSSH allowed_signers (ssh-keygen(1)) for the line that lets public tools check a bundle.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import AlreadyExists, ContentRefused, IntegrityError, UnknownObject
from audit.errors import Malformed
from audit.note import ED25519, NoteSigner, VerifierKey, decode_base64
from policy import sshsig

if TYPE_CHECKING:
    from pathlib import Path

NAMESPACE = "manifest@appliance"
SEED_BYTES = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]{0,63}")
_PREFIX = "PRIVATE+KEY+"
_MAX_FILE_BYTES = 512


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A secret signing key and its name."""

    note: NoteSigner

    @classmethod
    def from_seed(cls, name: str, seed: bytes | bytearray | memoryview) -> SignerKey:
        """Make the key of a 32-byte seed; raise ContentRefused for a name that cannot stand in a manifest."""
        if not _NAME.fullmatch(name):
            raise ContentRefused(
                f"signer name {name!r:.80}: expected up to 64 letters, digits and . _ @ / -, found others"
            )
        return cls(NoteSigner(name, seed))

    @property
    def name(self) -> str:
        """The signer's name."""
        return self.note.name

    @property
    def vkey(self) -> VerifierKey:
        """The public half."""
        return self.note.vkey

    @property
    def seed(self) -> bytes | bytearray | memoryview:
        """The 32-byte Ed25519 seed."""
        return self.note.seed


def save_signer(folder: Path, key: SignerKey) -> tuple[Path, Path]:
    """Write NAME.key (mode 0600) and NAME.vkey; raise AlreadyExists rather than overwrite either."""
    stem = key.name.replace("/", "_")
    secret, public = folder / f"{stem}.key", folder / f"{stem}.vkey"
    for path in (secret, public):
        if path.exists():
            raise AlreadyExists(
                f"expected no {path} yet, found one; choose another name, a key is never overwritten"
            )
    blob = base64.b64encode(bytes([ED25519]) + bytes(key.seed)).decode("ascii")
    _write_new(secret, f"{_PREFIX}{key.name}+{key.vkey.key_id.hex()}+{blob}\n", 0o600)
    _write_new(public, f"{key.vkey.text}\n", 0o644)
    return secret, public


def load_signer(path: Path) -> SignerKey:
    """Read NAME.key; raise UnknownObject, ContentRefused, or IntegrityError if others may read it."""
    try:
        with path.open("rb") as source:
            mode = stat.S_IMODE(os.fstat(source.fileno()).st_mode)
            data = source.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise UnknownObject(
            f"expected a signer key at {path}, found none; `appliance keygen signer NAME`"
        ) from error
    if mode & 0o077 and data.startswith(_PREFIX.encode("ascii")):
        raise IntegrityError(
            f"{path}: expected mode 0600, found {mode:04o}; make a new key, others may have read it"
        )
    return _parse_signer(data, path)


def load_verifier(path: Path) -> VerifierKey:
    """Read NAME.vkey; raise UnknownObject if absent, ContentRefused if malformed."""
    try:
        with path.open("rb") as source:
            return VerifierKey.parse(source.read(_MAX_FILE_BYTES + 1).decode("ascii"))
    except FileNotFoundError as error:
        raise UnknownObject(f"expected a verifier key at {path}, found none; name a .vkey file") from error
    except (Malformed, UnicodeDecodeError) as error:
        raise ContentRefused(
            f"{path}: expected one line NAME+id+base64, found another text: {error}"
        ) from error


def allowed_signers_line(key: VerifierKey) -> str:
    """Return the line with which `ssh-keygen -Y verify` accepts this signer's manifests."""
    return f'{key.name} namespaces="{NAMESPACE}" {sshsig.public_key_line(key.public_key, key.name)}\n'


def _parse_signer(data: bytes, path: Path) -> SignerKey:
    wrong = f"{path}: expected one line {_PREFIX}NAME+id+base64, found another text; restore its backup"
    try:
        name, key_id, encoded = data.decode("ascii").removesuffix("\n").removeprefix(_PREFIX).split("+", 2)
        blob = decode_base64(encoded, "signer key")
    except (ValueError, Malformed):
        # The cause is not kept: it would quote the secret.
        raise ContentRefused(wrong) from None
    if not data.startswith(_PREFIX.encode()) or len(blob) != 1 + SEED_BYTES or blob[0] != ED25519:
        raise ContentRefused(wrong)
    key = SignerKey.from_seed(name, blob[1:])
    if key.vkey.key_id.hex() != key_id:
        raise ContentRefused(wrong)
    return key


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise AlreadyExists(f"expected no {path} yet, found one; a key is never overwritten") from error
    with os.fdopen(fd, "w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(fd)
