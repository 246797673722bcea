"""A slot: one secret at rest, in an age file that opens with an identity from somewhere else.

    <name>.age            the secret, sealed to the slot's recipient and the offline recovery recipient
    <name>.custody.json   how to get the identity: URI, recipient, and what its kind of custody keeps; public
    <name>.identity       `file:` custody only

Guarantee: a wrong passphrase, share, PIN or key is WrongSecret and a damaged file IntegrityError, because the
recipient on record tells which it was. No slot is overwritten; `reseal` changes what one holds, whole or not
at all. Anybody with the identity can open the slot with the public `age` program.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.age import HybridIdentity, Identity, Recipient, X25519Identity, parse_identity, parse_recipient
from appliance.age.files import open_bytes, seal_bytes
from appliance.custody import file, passphrase
from appliance.custody.kinds import make_lock, parse_lock
from appliance.custody.lock import Lock
from appliance.custody.passphrase import Costs
from appliance.custody.uri import canonical, what_is_asked
from appliance.errors import (
    AlreadyExists,
    ApplianceError,
    Incomplete,
    IntegrityError,
    SpaceExhausted,
    UsageError,
    WrongSecret,
)

VAULT_SLOT = "vault"
LOG_SLOT = "log"
RECORD = ".custody.json"
_SUFFIXES = (RECORD, file.SUFFIX, ".age")  # in the order in which a slot is destroyed: the record first
_MAX_SIZE = 1024 * 1024
_HYBRID_PREFIX = "age1pq1"
_WRONG = {"passphrase": "passphrase", "shares": "shares", "PIN": "token or PIN"}


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What `<name>.custody.json` says; all of it is public."""

    recipient: str
    lock: Lock

    @property
    def uri(self) -> str:
        """The custody URI."""
        return self.lock.uri

    def encode(self) -> bytes:
        """Return the file's JSON: sorted keys, one line."""
        fields: dict[str, Any] = {"recipient": self.recipient, "uri": self.uri, "version": 1}
        return json.dumps({**fields, **self.lock.fields()}, sort_keys=True).encode("ascii") + b"\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the record, hex, as log entries name it."""
        return hashlib.sha256(self.encode()).hexdigest()


@dataclass(frozen=True, slots=True, repr=False)
class Created:
    """A new slot's record, and its shares where it was split; the caller hands them out and wipes them."""

    record: SlotRecord
    shares: tuple[bytearray, ...]


def parse_record(data: bytes) -> SlotRecord:
    """Parse a custody file; raises IntegrityError unless it is exactly what `encode` writes."""
    try:
        fields = json.loads(data)
        uri, recipient, _ = (fields.pop(name) for name in ("uri", "recipient", "version"))
        record = SlotRecord(parse_recipient(recipient).text, parse_lock(uri, fields))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise IntegrityError(
            f"custody file: expected uri, recipient, version and what the uri goes with, found: {error}"
        ) from error
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
    recovery: Recipient | None = None,
) -> Created:
    """Seal `plaintext` under a new slot and prove that it opens again before returning.

    `secret` is what a person gives, a passphrase or PIN, else None. `hybrid` makes the lock post-quantum, as
    its `recovery` recipient must be then. What fails leaves nothing behind. Raises UsageError, AlreadyExists,
    SpaceExhausted, and of devices WrongSecret, DeviceMissing.
    """
    for suffix in _SUFFIXES:
        if (directory / f"{name}{suffix}").exists():
            raise AlreadyExists(
                f"slot {name}: expected no {name}{suffix} in {directory}, found one; keys are never "
                "overwritten"
            )
    kind = HybridIdentity if hybrid else X25519Identity
    try:
        made = make_lock(canonical(uri), secret, directory / name, kind, costs)
    except OSError as error:
        (directory / f"{name}{file.SUFFIX}").unlink(missing_ok=True)
        raise SpaceExhausted(
            f"slot: expected to write {directory / name}, found: {error.strerror}"
        ) from error
    identity = kind(made.secret)
    try:
        record = SlotRecord(identity.recipient.text, made.lock)
        _write(directory / f"{name}.age", seal_bytes(plaintext, _recipients(identity.recipient, recovery)))
        _write(directory / f"{name}{RECORD}", record.encode())
        _prove(directory, name, bytearray(b"\n").join(made.shares) or secret, plaintext)
    except BaseException:
        with contextlib.suppress(ApplianceError, OSError):
            remove_slot(directory, name)
            made.lock.destroy(secret)
        raise
    finally:
        identity.wipe()
        made.secret[:] = bytes(len(made.secret))
    return Created(record, made.shares)


def reseal(
    directory: Path,
    name: str,
    record: SlotRecord,
    plaintext: bytes | bytearray,
    recovery: Recipient | None = None,
) -> None:
    """Put another secret into a slot, under the same lock; a crash leaves the former or the new one, whole.

    Needs nobody's secret: the slot's recipient is public. Anybody who can write the disk could have put
    another there, so `record` is one that was compared with the log. Raises SpaceExhausted; then the former
    stands.
    """
    own = parse_recipient(record.recipient)
    scratch = directory / f"{name}.age.new"
    scratch.unlink(missing_ok=True)
    _write(scratch, seal_bytes(plaintext, _recipients(own, recovery)))
    scratch.rename(directory / f"{name}.age")
    _sync(directory)


def remove_slot(directory: Path, name: str) -> None:
    """Destroy a slot, or what is there of one; a crash within leaves none that opens; raises OSError."""
    for suffix in (*_SUFFIXES, ".age.new"):
        (directory / f"{name}{suffix}").unlink(missing_ok=True)
    _sync(directory)


def open_slot(
    directory: Path, name: str, secret: bytearray | None, *, by_recovery: bool = False
) -> bytearray:
    """Return the slot's secret, which the caller wipes; `by_recovery` takes the offline identity's text.

    Raises WrongSecret for a wrong passphrase, share, PIN or key file, IntegrityError for a damaged slot,
    Incomplete for a missing one, UsageError for a secret not given, DeviceMissing, PlatformChanged.
    """
    record = read_record(directory, name)
    sealed = _read(directory / f"{name}.age")
    if by_recovery:
        return _open_by_recovery(name, sealed, secret)
    identity = _identity(directory, name, record, secret)
    try:
        if identity.recipient.text != record.recipient:
            what = _WRONG.get(what_is_asked(record.uri), "key file or device")
            raise WrongSecret(f"slot {name}: wrong {what}; nothing was opened, try again")
        return _open_sealed(name, sealed, identity)
    finally:
        identity.wipe()


def numbered(stem: str, number: int) -> str:
    """Name the slot of an epoch or generation: the first bears the stem alone."""
    return f"{stem}-{number}" if number else stem


def numbers_of(directory: Path, stem: str, suffix: str = "") -> list[int]:
    """List the numbers of a stem's slots that have a file of this suffix, or any; in order."""
    found = set()
    for path in directory.glob(f"{stem}*{suffix}"):
        name = path.name.partition(".")[0]
        number = name.removeprefix(f"{stem}-") if name != stem else "0"
        if number.isascii() and number.isdecimal() and numbered(stem, int(number)) == name:
            found.add(int(number))
    return sorted(found)


def _recipients(own: Recipient, recovery: Recipient | None) -> list[Recipient]:
    return [own] if recovery is None else [own, recovery]


def _open_sealed(name: str, sealed: bytes, identity: Identity) -> bytearray:
    """Open with the identity on record: that the lock does not know it is damage, not a wrong secret."""
    try:
        return open_bytes(sealed, [identity])
    except WrongSecret as error:
        raise IntegrityError(f"slot {name}: {name}.age is not sealed to the recipient on record") from error


def _open_by_recovery(name: str, sealed: bytes, text: bytearray | None) -> bytearray:
    if text is None:
        raise UsageError(f"slot {name}: expected the recovery identity, found none")
    identity = parse_identity(text)
    try:
        return open_bytes(sealed, [identity])
    except WrongSecret as error:
        raise WrongSecret(f"slot {name}: this is not its recovery identity; nothing was opened") from error
    finally:
        identity.wipe()


def _identity(directory: Path, name: str, record: SlotRecord, secret: bytearray | None) -> Identity:
    found = record.lock.open(secret, directory / name)
    try:
        kind = HybridIdentity if record.recipient.startswith(_HYBRID_PREFIX) else X25519Identity
        return kind(found)
    finally:
        found[:] = bytes(len(found))


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
