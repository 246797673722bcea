"""A backup while the appliance runs: ciphertext only, whole at a moment of the log, incremental by object.

Through the daemon, not beside it: so it is decided and logged, log and catalog are taken at one moment, and
no rotation comes between headers and keyring. (A home whose daemon is stopped is a backup as it is: copy it.)
The folder looks like a home, and `restore-log --from` takes it:

    home.json officers policy/     as they are
    keys/                          the vault's slots; never a key in the clear, never the log's own key
    log/                           what an auditor gets, up to the moment
    catalog.db                     by SQLite's backup
    vault/ID/{header,payload}      payloads copied once, since they never change; their SHA-256 is compared
    backup.json                    what belongs to it, written last

What a crash leaves: step 1 lays the small files under `.incoming`, keyring first of all, and makes them
durable; step 2 adds objects and renews headers; step 3 moves the small files in, removes what was shredded or
retired since, and writes backup.json. In between, after a rotation, some headers are newer than the keyring
beside them; the newer keyring lies in `.incoming/keys`. Repeating the backup goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.backup import INCOMING, BackupRecord, write_record
from appliance.catalog import Object
from appliance.custodian.core import Core
from appliance.custodian.exports import check_writable_by
from appliance.custodian.shredding import BACKED_UP
from appliance.custodian.vault_rotation import demand_no_rotation
from appliance.custody.slot import VAULT_SLOT
from appliance.errors import IntegrityError, SpaceExhausted, UsageError
from appliance.exchange import sync_file_system
from appliance.gate import Thing
from appliance.home import Home
from audit.entry import JSON
from policy.model import Entity

_COPY = 4 * 1024 * 1024
_UNSAFE = ".identity"  # the ending of a key in the clear
_LOG_FILES_LEFT_OUT = ("wal", "lock", "reserve", "incoming")
_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class BackedUp:
    """How far a backup is; `entry` is -1 until it ended."""

    done: int
    total: int
    copied_bytes: int
    entry: int = -1


async def back_up(
    core: Core, person: Entity, folder_fd: int, name: str, uid: int
) -> AsyncGenerator[BackedUp, None]:
    """Bring the backup in a folder up to this moment; takes ownership of the descriptor.

    Raises Busy while a rotation is not ended, PolicyRefused, SpaceExhausted, UsageError for a folder that
    holds something else, IntegrityError for an object that is not what its entry says: it is not copied.
    """
    try:
        core.custody  # noqa: B018  raises SealedError before anything is asked
        if not 0 < len(name) <= _MAX_NAME:
            raise UsageError(f"expected a backup's name of 1 to {_MAX_NAME} characters, found {len(name)}")
        check_writable_by(folder_fd, uid)
        demand_no_rotation(core)
        core.gate.request(person, "backup", Thing(core.appliance()))
        with _no_rotation(core):
            async for told in _Backup(core, Path(f"/proc/self/fd/{folder_fd}")).write(person, name):
                yield told
    finally:
        os.close(folder_fd)


@contextmanager
def _no_rotation(core: Core) -> Iterator[None]:
    """Keep keyring and headers as they are, and say what a failing medium means."""
    core.rotating = True
    try:
        yield
    except OSError as failed:
        raise SpaceExhausted(
            f"the medium of the backup failed: {failed.strerror}; what it held before stands; repeat it"
        ) from failed
    finally:
        core.rotating = False


class _Backup:
    """One backup on its way; blocking steps run in a thread, the moment itself is taken without a pause."""

    def __init__(self, core: Core, target: Path) -> None:
        self._core = core
        self._target = Home(target)
        self._incoming = Home(target / INCOMING)
        self._copied = 0

    async def write(self, person: Entity, name: str) -> AsyncGenerator[BackedUp, None]:
        """Carry out the steps of the module's heading."""
        self._demand_own_folder()
        rows, size = self._take_moment()
        await asyncio.to_thread(sync_file_system, self._target.root)
        damaged: list[str] = []
        for done, row in enumerate(rows):
            try:
                await asyncio.to_thread(self._copy_object, row)
            except IntegrityError as wrong:
                damaged.append(str(wrong))
            yield BackedUp(done + 1, len(rows), self._copied)
        await asyncio.to_thread(sync_file_system, self._target.root)
        files = await asyncio.to_thread(self._digests)
        objects = {row.id: row.sha256 for row in rows}
        record = BackupRecord(self._core.facts.origin, size, files, objects)
        await asyncio.to_thread(self._finish, record)
        told: dict[str, JSON] = {
            "name": name,
            "objects": len(rows) - len(damaged),
            "bytes": self._copied,
            "log_size": size,
        }
        origin = self._core.facts.origin
        who = f"Person:{person.id}"
        entry = self._core.gate.outcome(BACKED_UP, who, "backup", f"Appliance:{origin}", told)
        if damaged:
            raise IntegrityError(
                f"{len(damaged)} of {len(rows)} objects are damaged and were not copied, the others were; "
                f"first: {damaged[0]}"
            )
        yield BackedUp(len(rows), len(rows), self._copied, entry.index)

    def _demand_own_folder(self) -> None:
        """Take an empty folder, or a backup of this very appliance."""
        if self._target.facts.exists():
            if self._target.facts.read_bytes() != self._core.home.facts.read_bytes():
                raise UsageError("expected an empty folder or a backup of this appliance, found another's")
            return
        found = [path.name for path in self._target.root.iterdir() if path.name != INCOMING]
        if found:
            raise UsageError(f"expected an empty folder or a backup of this appliance, found {found[0]!r}")

    def _take_moment(self) -> tuple[Sequence[Object], int]:
        """Lay the small files under `.incoming`, keyring first; nothing else happens meanwhile."""
        core, home, into = self._core, self._core.home, self._incoming
        shutil.rmtree(into.root, ignore_errors=True)
        into.keys.mkdir(parents=True, mode=0o700)
        for path in home.keys.glob(f"{VAULT_SLOT}*"):
            if not path.name.endswith((_UNSAFE, ".new")):
                shutil.copyfile(path, into.keys / path.name)
        core.log.publish()
        self._copy_log()
        for path in (home.facts, home.officers):
            shutil.copyfile(path, into.root / path.name)
        shutil.copytree(home.policy, into.policy)
        core.settle()
        core.catalog.backup(into.catalog)
        return [row for row in core.catalog.list() if not row.gone], core.log.size

    def _copy_log(self) -> None:
        """Copy what is published; KNOWN: all of it each time, a second for some million entries."""
        log = self._core.home.log
        for path in sorted(log.rglob("*")):
            name = path.relative_to(log)
            if path.is_dir() or name.parts[0] in _LOG_FILES_LEFT_OUT:
                continue
            into = self._incoming.log / name
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, into)

    def _copy_object(self, row: Object) -> None:
        """Copy a payload that is not there yet, compared with its entry, and the header as it is now."""
        vault, folder = self._core.vault, self._target.vault / row.id
        payload = folder / "payload"
        if not payload.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch = folder / "payload.new"
            found = self._copy_payload(row, scratch)
            if found != row.sha256:
                scratch.unlink()
                raise IntegrityError(
                    f"object {row.id}: expected SHA-256 {row.sha256[:16]}…, found {found[:16]}…: restore it"
                )
            scratch.rename(payload)
        header = vault.header(row.id)
        path = folder / "header"
        if not path.exists() or path.read_bytes() != header:
            scratch = folder / "header.new"
            scratch.write_bytes(header)
            scratch.rename(path)

    def _copy_payload(self, row: Object, scratch: Path) -> str:
        digest = hashlib.sha256()
        fd = self._core.vault.open_payload(row.id)
        with os.fdopen(fd, "rb", buffering=0) as source, scratch.open("wb", buffering=0) as out:
            while data := source.read(_COPY):
                digest.update(data)
                out.write(data)
                self._copied += len(data)
        return digest.hexdigest()

    def _digests(self) -> dict[str, str]:
        """Return the SHA-256 of each small file by the path that it is about to have."""
        return {
            str(path.relative_to(self._incoming.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self._incoming.root.rglob("*"))
            if path.is_file()
        }

    def _finish(self, record: BackupRecord) -> None:
        """Move the small files in, say that all is there, and remove what has no place in it any more."""
        root = self._target.root
        for folder in ("keys", "policy", "log"):
            shutil.rmtree(root / folder, ignore_errors=True)
        for path in sorted(self._incoming.root.iterdir()):
            path.rename(root / path.name)
        self._incoming.root.rmdir()
        self._target.vault.mkdir(exist_ok=True, mode=0o700)
        for path in self._target.vault.iterdir():
            if path.name not in record.objects:
                shutil.rmtree(path)
        sync_file_system(root)
        write_record(root, record)
