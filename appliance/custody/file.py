"""`file:` custody: the identity lies in a file beside the lock. For demonstrations and nothing else.

Guarantees nothing against who can read the disk; the mode check only catches a key left open to other users.
`status` and the log call it what it is. The file is an ordinary age identity file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.age import Identity, parse_identity_file
from appliance.age.identity import SECRET_SIZE
from appliance.custody.lock import Made
from appliance.custody.uri import FILE
from appliance.errors import UsageError, WrongSecret
from appliance.strictjson import JSON

SUFFIX = ".identity"
_MAX_SIZE = 4096


@dataclass(frozen=True, slots=True)
class FileLock:
    """A key file beside the lock."""

    @property
    def uri(self) -> str:
        """The custody URI."""
        return FILE

    def fields(self) -> Mapping[str, JSON]:
        """Return what the record holds: nothing."""
        return {}

    def open(self, secret: bytearray | None, beside: Path) -> bytearray:
        """Read the key file; raises WrongSecret."""
        del secret
        identity = read_identity(beside.with_name(beside.name + SUFFIX))
        try:
            return bytearray(identity.secret())
        finally:
            identity.wipe()

    def destroy(self, secret: bytearray | None) -> None:
        """Nothing is kept outside the slot's files."""


def make(beside: Path, kind: type[Identity]) -> Made:
    """Write fresh randomness into a key file, as an identity of this kind; raises OSError."""
    secret = bytearray(os.urandom(SECRET_SIZE))
    identity = kind(secret)
    try:
        write_identity(beside.with_name(beside.name + SUFFIX), identity)
    finally:
        identity.wipe()
    return Made(FileLock(), secret)


def write_identity(path: Path, identity: Identity) -> None:
    """Write a new identity file, mode 0600, durable; raises FileExistsError rather than overwrite."""
    text = identity.encode() + b"\n"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(fd)
    text[:] = bytes(len(text))


def read_identity(path: Path) -> Identity:
    """Read the identity; raises WrongSecret when it is missing, damaged, or readable by other users."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise WrongSecret(
            f"key file {path}: expected a file of this user, found: {error.strerror}"
        ) from error
    with os.fdopen(fd, "rb", buffering=0) as stream:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & 0o077:
            raise WrongSecret(f"key file {path}: expected mode 0600, found {mode:04o}; run chmod 600 on it")
        text = bytearray(_MAX_SIZE)
        size = stream.readinto(text) or 0
    try:
        identities = parse_identity_file(text[:size])
    except UsageError as error:
        raise WrongSecret(f"key file {path}: {error}") from error
    finally:
        text[:] = bytes(_MAX_SIZE)
    if len(identities) != 1:
        raise WrongSecret(f"key file {path}: expected one identity, found {len(identities)}")
    return identities[0]
