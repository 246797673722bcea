"""What says of a folder that it is a whole backup: `backup.json`, and the strict reading of it.

Guarantees whoever reads one that its small files are those of one moment: each is named with its SHA-256, and
so is every object whose payload must be there. It is written last and durable; a backup that was cut off has
an older one, or none, and may not agree with its files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import Incomplete, IntegrityError

RECORD = "backup.json"
INCOMING = ".incoming"
FORMAT = 1
MAX_RECORD_BYTES = 256 * 1024 * 1024  # some 100 bytes an object
AGAIN = "repeat `appliance backup`"


@dataclass(frozen=True, slots=True)
class BackupRecord:
    """The moment of a backup and what belongs to it."""

    origin: str
    log_size: int
    files: Mapping[str, str]
    """SHA-256 of each small file, hex, by its path in the folder."""
    objects: Mapping[str, str]
    """SHA-256 of each payload, hex, by the object's id."""

    def encode(self) -> bytes:
        """Return sorted ASCII JSON on one line; the inverse of `parse_backup`."""
        fields = {
            "format": FORMAT,
            "origin": self.origin,
            "log_size": self.log_size,
            "files": dict(self.files),
            "objects": dict(self.objects),
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def parse_backup(data: bytes) -> BackupRecord:
    """Parse what `encode` wrote, and nothing else; raises IntegrityError."""
    try:
        found = json.loads(data)
        record = BackupRecord(found["origin"], found["log_size"], found["files"], found["objects"])
        texts = [*record.files.values(), *record.objects.values(), *record.files, *record.objects]
        if not all(isinstance(text, str) for text in (record.origin, *texts)) or record.log_size < 0:
            raise ValueError("other types")
        if record.encode() != data:
            raise ValueError("another spelling or format")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{RECORD} is damaged ({error}): {AGAIN}") from error
    return record


def read_backup(folder: Path) -> BackupRecord:
    """Read a backup's record and compare every small file with it; raises Incomplete, IntegrityError."""
    path = folder / RECORD
    try:
        with path.open("rb") as source:
            data = source.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise Incomplete(f"{path}: expected a backup, found: {error.strerror}; {AGAIN}") from error
    record = parse_backup(data)
    for name, expected in record.files.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise Incomplete(f"{folder / name}: expected it, found: {error.strerror}; {AGAIN}") from error
        if found != expected:
            raise IntegrityError(
                f"{folder / name}: expected SHA-256 {expected[:16]}…, found {found[:16]}…: the backup was "
                f"cut off or changed; {AGAIN}"
            )
    return record


def write_record(folder: Path, record: BackupRecord) -> None:
    """Write a record durably, by rename; raises OSError."""
    scratch = folder / f"{RECORD}.new"
    with scratch.open("wb") as out:
        out.write(record.encode())
        out.flush()
        os.fsync(out.fileno())
    scratch.rename(folder / RECORD)
