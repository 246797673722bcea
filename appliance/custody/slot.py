"""A slot: one secret at rest, in an age file that opens with an identity from somewhere else.

    <name>.age            the secret, sealed to the slot's recipient
    <name>.custody.json   how to get the identity: URI, recipient, salt and costs; nothing secret
    <name>.identity       `file:` custody only

Guarantee: a wrong passphrase or key is WrongSecret and a damaged file IntegrityError, because the recipient
on record tells which it was. Nothing is ever overwritten. Anybody with the identity can open the slot with
the public `age` program.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.age import HybridIdentity, Identity, X25519Identity, parse_recipient
from appliance.age.files import open_bytes, seal_bytes
from appliance.custody import file, passphrase
from appliance.custody.passphrase import Costs
from appliance.errors import (
    AlreadyExists,
    Incomplete,
    IntegrityError,
    SpaceExhausted,
    UsageError,
    WrongSecret,
)

VAULT_SLOT = "vault"
LOG_SLOT = "log"
PASSPHRASE = "passphrase:"  # noqa: S105  a URI scheme
FILE = "file:"
_MAX_SIZE = 1024 * 1024
_HYBRID_PREFIX = "age1pq1"


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What `<name>.custody.json` says; all of it is public."""

    uri: str
    recipient: str
    salt: bytes
    costs: Costs | None

    def encode(self) -> bytes:
        """Return the file's JSON: sorted keys, one line."""
        fields: dict[str, Any] = {"recipient": self.recipient, "uri": self.uri, "version": 1}
        if self.costs is not None:
            fields["argon2id"] = {
                "memory_bytes": self.costs.memory_bytes,
                "passes": self.costs.passes,
                "salt": self.salt.hex(),
            }
        return json.dumps(fields, sort_keys=True).encode("ascii") + b"\n"


def parse_record(data: bytes) -> SlotRecord:
    """Parse a custody file; raises IntegrityError unless it is exactly what `encode` writes."""
    try:
        fields = json.loads(data)
        costs = fields.get("argon2id")
        record = SlotRecord(
            uri=fields["uri"],
            recipient=parse_recipient(fields["recipient"]).text,
            salt=bytes.fromhex(costs["salt"]) if costs is not None else b"",
            costs=Costs(int(costs["passes"]), int(costs["memory_bytes"])) if costs is not None else None,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise IntegrityError(
            f"custody file: expected uri, recipient, version and costs, found: {error}"
        ) from error
    if record.uri not in {PASSPHRASE, FILE} or (record.uri == PASSPHRASE) != (record.costs is not None):
        raise IntegrityError(f"custody file: expected passphrase: with costs, or file:, found {record.uri!r}")
    if record.encode() != data:
        raise IntegrityError(
            "custody file: expected its canonical form and no other field, found another text"
        )
    return record


def read_record(directory: Path, name: str) -> SlotRecord:
    """Read `<name>.custody.json`; raises Incomplete when it is not there."""
    return parse_record(_read(directory / f"{name}.custody.json"))


def create_slot(
    directory: Path,
    name: str,
    uri: str,
    secret: bytearray | None,
    plaintext: bytes | bytearray,
    *,
    hybrid: bool = False,
    costs: Costs = passphrase.MODERATE,
) -> SlotRecord:
    """Seal `plaintext` under a new slot and prove that it opens again before returning.

    `secret` is the passphrase for `passphrase:`, None for `file:`. `hybrid` makes the lock post-quantum.
    Raises UsageError, AlreadyExists, SpaceExhausted.
    """
    for suffix in ("age", "custody.json", "identity"):
        if (directory / f"{name}.{suffix}").exists():
            raise AlreadyExists(
                f"slot {name}: expected no {name}.{suffix} in {directory}, found one; keys are never "
                "overwritten"
            )
    kind = HybridIdentity if hybrid else X25519Identity
    if uri == PASSPHRASE:
        identity, record = _lock_by_passphrase(kind, secret, costs)
    elif uri == FILE:
        identity = kind.generate()
        file.write_identity(directory / f"{name}.identity", identity)
        record = SlotRecord(uri, identity.recipient.text, b"", None)
    else:
        raise UsageError(f"custody: expected {PASSPHRASE} or {FILE}, found {uri[:80]!r}")
    _write(directory / f"{name}.age", seal_bytes(plaintext, [identity.recipient]))
    _write(directory / f"{name}.custody.json", record.encode())
    identity.wipe()
    _prove(directory, name, secret, plaintext)
    return record


def remove_slot(directory: Path, name: str) -> None:
    """Destroy a slot, or what is there of one; a crash within leaves none that opens; raises OSError."""
    for suffix in ("custody.json", "identity", "age"):
        (directory / f"{name}.{suffix}").unlink(missing_ok=True)
    _sync(directory)


def open_slot(directory: Path, name: str, secret: bytearray | None) -> bytearray:
    """Return the slot's secret, which the caller wipes.

    Raises WrongSecret for a wrong passphrase or key file, IntegrityError for a damaged slot, Incomplete for a
    missing one, UsageError for a passphrase not given.
    """
    record = read_record(directory, name)
    sealed = _read(directory / f"{name}.age")
    identity = _identity(directory, name, record, secret)
    try:
        if identity.recipient.text != record.recipient:
            what = "passphrase" if record.uri == PASSPHRASE else "key file"
            raise WrongSecret(f"slot {name}: wrong {what}; nothing was opened, try again")
        return _open_sealed(name, sealed, identity)
    finally:
        identity.wipe()


def _open_sealed(name: str, sealed: bytes, identity: Identity) -> bytearray:
    """Open with the identity on record: that the lock does not know it is damage, not a wrong secret."""
    try:
        return open_bytes(sealed, [identity])
    except WrongSecret as error:
        raise IntegrityError(f"slot {name}: {name}.age is not sealed to the recipient on record") from error


def _lock_by_passphrase(
    kind: type[HybridIdentity | X25519Identity], secret: bytearray | None, costs: Costs
) -> tuple[Identity, SlotRecord]:
    if not secret:
        raise UsageError("custody: expected a passphrase, found none")
    salt = passphrase.new_salt()
    derived = passphrase.derive_secret(secret, salt, costs)
    identity = kind(derived)
    derived[:] = bytes(len(derived))
    return identity, SlotRecord(PASSPHRASE, identity.recipient.text, salt, costs)


def _identity(directory: Path, name: str, record: SlotRecord, secret: bytearray | None) -> Identity:
    if record.costs is None:
        return file.read_identity(directory / f"{name}.identity")
    if secret is None:
        raise UsageError(f"slot {name}: expected a passphrase, found none")
    derived = passphrase.derive_secret(secret, record.salt, record.costs)
    try:
        return (
            HybridIdentity(derived)
            if record.recipient.startswith(_HYBRID_PREFIX)
            else X25519Identity(derived)
        )
    finally:
        derived[:] = bytes(len(derived))


def _prove(directory: Path, name: str, secret: bytearray | None, plaintext: bytes | bytearray) -> None:
    """Open what was just written: a slot nobody can open again is found now and not after a power cut."""
    opened = open_slot(directory, name, secret)
    same = opened == plaintext
    opened[:] = bytes(len(opened))
    if not same:
        raise IntegrityError(f"slot {name}: expected to read back what was written, found other bytes")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_SIZE + 1)
    except OSError as error:
        raise Incomplete(f"slot: expected a file {path}, found: {error.strerror}; restore it") from error
    if len(data) > _MAX_SIZE:
        raise IntegrityError(f"slot: expected at most {_MAX_SIZE} bytes in {path}, found more")
    return data


def _write(path: Path, data: bytes) -> None:
    """Write a new file durably; a full disk leaves none."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(fd)
    except OSError as error:
        path.unlink()
        raise SpaceExhausted(f"slot: expected to write {path}, found: {error.strerror}") from error
    _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
