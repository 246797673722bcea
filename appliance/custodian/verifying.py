"""Every payload against the entry that created it, and the vault against the catalog, both ways.

Guarantees whoever reads the findings that each object in the catalog was looked at, and each folder of the
vault: what is missing, cut, altered, planted or left over is named. Only ciphertext is read; while the vault
is unsealed it is also tried whether each header opens, and is the object's own; no key leaves custody.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from appliance.age import parse_header
from appliance.catalog import Object
from appliance.custodian.core import Core
from appliance.errors import ApplianceError, Incomplete, IntegrityError, UnknownObject
from audit.entry import parse_entry
from audit.errors import AuditError

# Tuning: bytes hashed between two looks at the clients, a third of a second; and a read's size.
STRETCH = 256 * 1024 * 1024
_READ = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checked:
    """How far the check is, in bytes of payload, and one finding: what it is about, and what is wrong."""

    done_bytes: int
    total_bytes: int
    objects: int
    about: str = ""
    finding: str = ""


async def verify_objects(core: Core, chosen: tuple[Object, ...]) -> AsyncGenerator[Checked, None]:
    """Check these objects, and then what lies in the vault without being one; tells each finding at once."""
    rows = [row for row in chosen if not row.gone]
    total = sum(_size_on_disk(core, row) for row in rows)
    done = 0
    for count, row in enumerate(rows):
        before = done
        try:
            _check_header(core, row)
            async for size in _check_payload(core, row):
                done += size
                yield Checked(done, total, count)
            finding = ""
        except (ApplianceError, AuditError) as wrong:
            finding = str(wrong)
        done = max(done, before + _size_on_disk(core, row)) if finding else done
        yield Checked(done, total, count + 1, _name(row) if finding else "", finding)
    known = {row.id for row in core.catalog.list()}
    for name in core.vault.folders():
        if name not in known:
            finding = (
                "is in the vault and no object: a crash left it before its entry, or somebody put it there; "
                "remove it once you know"
            )
            yield Checked(done, total, len(rows), name, finding)


def _check_header(core: Core, row: Object) -> None:
    if core.sealed:
        parse_header(core.vault.header(row.id))
    else:
        core.custody.prove(row.id)


async def _check_payload(core: Core, row: Object) -> AsyncGenerator[int, None]:
    said: Any = parse_entry(core.log.entry(row.log_index)).context
    if said.get("object") != row.id:
        raise IntegrityError(f"log entry {row.log_index} did not create it; rebuild the catalog")
    fd = core.vault.open_payload(row.id)
    try:
        digest = hashlib.sha256()
        while size := await asyncio.to_thread(_hash, fd, digest):
            yield size
    finally:
        os.close(fd)
    if digest.hexdigest() != said["payload_sha256"]:
        raise IntegrityError(
            f"its payload has SHA-256 {digest.hexdigest()[:16]}…, log entry {row.log_index} says "
            f"{said['payload_sha256'][:16]}…: restore it from a backup"
        )


def _hash(fd: int, digest: Any) -> int:
    done = 0
    while done < STRETCH and (data := os.read(fd, _READ)):
        digest.update(data)
        done += len(data)
    return done


def _size_on_disk(core: Core, row: Object) -> int:
    try:
        fd = core.vault.open_payload(row.id)
    except (UnknownObject, Incomplete, IntegrityError):
        return 0
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _name(row: Object) -> str:
    return f"{row.kind}/{row.name}@{row.version} {row.id}"
