"""The proof that a backup opens: log verified, keyring opened, every object decrypted to the last chunk.

Guarantees whoever rehearses that what passes can be restored with the secret that was just given, today. In
this order: the record and every small file → the whole log, under the key in home.json → the objects that the
log says are there, none more and none less → the keyring, under the custody that the log names → each header,
by the id that comes out of it → each payload, decrypted and compared with its entry. The backup is only read,
no live home is touched, and no plaintext is kept: it is decrypted into one buffer and dropped. Where `file:`
custody keeps its key apart, slot and key lie in a scratch folder in memory meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.age import Identity, parse_header, payload_key, unwrap_file_key
from appliance.age.header import NONCE_SIZE
from appliance.age.stream import decrypt_stream
from appliance.backup import AGAIN, read_backup
from appliance.catalog.entries import RETIRED
from appliance.custody import file
from appliance.custody.generations import CUSTODY_ENTRIES, Standing, check_record, standing_of
from appliance.custody.keyring import Keyring, parse_keyring
from appliance.custody.slot import SlotRecord, open_slot
from appliance.custody.succession import settle_succession
from appliance.custody.uri import FILE
from appliance.errors import ApplianceError, IntegrityError, UsageError
from appliance.home import Facts, Home
from appliance.inventory import CREATED, SHREDDED, Inventory, event_of
from appliance.restore import read_home
from appliance.vault import Vault, object_id
from audit.entry import Entry

SCRATCH = Path("/dev/shm")  # noqa: S108  memory, where there is some


@dataclass(slots=True)
class Contents:
    """What a backup's log says of it: custody, what lies in the vault, and each payload's SHA-256."""

    inventory: Inventory = field(default_factory=Inventory)
    payloads: dict[str, str] = field(default_factory=dict)
    entries: int = 0
    _standing: Standing | None = None

    @property
    def standing(self) -> Standing:
        """How the vault was opened at the moment of the backup."""
        assert self._standing is not None  # noqa: S101  the first entry says it, and the log was verified
        return self._standing

    def observe(self, entry: Entry) -> None:
        """Take one entry, in order."""
        said: Any = entry.context
        self.entries += 1
        if entry.seq == 0 or entry.kind in CUSTODY_ENTRIES:
            self._standing = standing_of(entry)
        event = event_of(entry.kind, entry.context)
        if event is not None:
            self.inventory.take(event)
        if entry.kind == CREATED:
            self.payloads[said["object"]] = said["payload_sha256"]
        if entry.kind in (SHREDDED, RETIRED):
            for gone in said["objects"] if entry.kind == RETIRED else [said["object"]]:
                self.payloads.pop(gone, None)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """How far a rehearsal is, in objects and bytes of plaintext."""

    done: int
    total: int
    opened_bytes: int


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup whose record and log were verified; the secret has not been asked for yet."""

    home: Home
    facts: Facts
    contents: Contents
    record: SlotRecord
    """How its keyring is opened."""

    @property
    def share_set(self) -> Mapping[str, Any]:
        """The public numbers of its shares; empty where it is opened in another way."""
        found: Any = self.record.lock.fields().get("shamir", {})
        return dict(found)


def read(folder: Path) -> Backup:
    """Verify all that needs no secret; raises Incomplete, IntegrityError, and what the log's check raises."""
    record = read_backup(folder)
    home, contents = Home(folder), Contents()
    facts = read_home(home, contents.observe)
    if contents.payloads != dict(record.objects) or contents.entries != record.log_size:
        raise IntegrityError(
            f"{folder}: expected the {len(contents.payloads)} objects that its log tells of, found "
            f"{len(record.objects)} others in backup.json; {AGAIN}"
        )
    standing = contents.standing
    return Backup(home, facts, contents, check_record(home.keys, standing.slot, standing.record))


def rehearse(backup: Backup, secret: bytearray | None, key_file: Path | None = None) -> Iterator[Rehearsed]:
    """Open everything with the secret, telling how far that is; `secret` is overwritten.

    `key_file` is what `file:` custody keeps apart from its backups. Raises WrongSecret, IntegrityError naming
    the first object that does not open, Incomplete.
    """
    try:
        keyring = _open_keyring(backup, secret, key_file)
    finally:
        if secret is not None:
            secret[:] = bytes(len(secret))
    try:
        vault, opened = Vault(backup.home.vault), 0
        payloads = backup.contents.payloads
        for done, (name, digest) in enumerate(payloads.items()):
            opened += _open_object(vault, name, digest, keyring.vault_identity)
            yield Rehearsed(done + 1, len(payloads), opened)
        if not payloads:
            yield Rehearsed(0, 0, 0)
    finally:
        keyring.wipe()


def _open_keyring(backup: Backup, secret: bytearray | None, key_file: Path | None) -> Keyring:
    slot = backup.contents.standing.slot
    beside = backup.home.keys / f"{slot}{file.SUFFIX}"
    if backup.record.uri == FILE and key_file is None and not beside.exists():
        raise UsageError("expected --key-file, as no backup holds the key of `file:` custody, found none")
    with _keys(backup.home.keys, slot, key_file) as keys:
        text = open_slot(keys, slot, secret)
    try:
        keyring = parse_keyring(text)
    finally:
        text[:] = bytes(len(text))
    settle_succession(keyring, backup.facts.vault_recipient, backup.contents.inventory)
    return keyring


@contextmanager
def _keys(keys: Path, slot: str, key_file: Path | None) -> Iterator[Path]:
    """Yield a folder with the slot, and beside it the key that was kept apart, where one is given."""
    if key_file is None:
        yield keys
        return
    with tempfile.TemporaryDirectory(dir=SCRATCH if SCRATCH.is_dir() else None) as scratch:
        for path in keys.iterdir():
            shutil.copyfile(path, Path(scratch) / path.name)
        beside = Path(scratch) / f"{slot}{file.SUFFIX}"
        beside.touch(mode=0o600)
        shutil.copyfile(key_file, beside)
        yield Path(scratch)


def _open_object(vault: Vault, name: str, digest: str, identity: Identity) -> int:
    """Open one object to its last chunk; returns its size in bytes; raises IntegrityError that names it."""
    try:
        file_key = unwrap_file_key(parse_header(vault.header(name)), [identity])
        fd = vault.open_payload(name)
    except ApplianceError as shut:
        raise IntegrityError(f"object {name}: expected it in the backup, and that it opens: {shut}") from shut
    found = hashlib.sha256()
    with os.fdopen(fd, "rb", buffering=0) as source:
        nonce = source.read(NONCE_SIZE)
        found.update(nonce)
        key = payload_key(file_key, nonce)
        try:
            if object_id(file_key, nonce) != name:
                raise IntegrityError(f"object {name}: its header and payload belong to another")
            size = decrypt_stream(_hashing(source.readinto, found.update), key, lambda _: None)
        finally:
            file_key[:] = bytes(len(file_key))
            key[:] = bytes(len(key))
    if found.hexdigest() != digest:
        raise IntegrityError(f"object {name}: expected the payload that its log entry names, found another")
    return size


def _hashing(
    readinto: Callable[[memoryview], int | None], update: Callable[[memoryview], None]
) -> Callable[[memoryview], int | None]:
    def read_and_hash(view: memoryview) -> int | None:
        size = readinto(view)
        if size:
            update(view[:size])
        return size

    return read_and_hash
