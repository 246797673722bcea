"""Files that an auditor hands over, and those that the program leaves.

Guarantees that no more than the stated bytes of a file are held, and that nothing is overwritten: evidence
stays as it was written.
"""

from __future__ import annotations

import os
from pathlib import Path

from audit.errors import AlreadyExists, CouldNotCheck, Malformed
from audit.folder import Folder
from audit.note import VerifierKey

_MAX_KEY_FILE_BYTES = 4096


def read_given(path: Path, limit: int) -> bytes:
    """Read a whole plain file of at most `limit` bytes; raises CouldNotCheck, Malformed."""
    with Folder(path.parent) as folder:
        return folder.read(path.name, limit)


def read_key(path: Path) -> VerifierKey:
    """Read a public key, one vkey line; raises CouldNotCheck, Malformed."""
    return VerifierKey.parse(read_given(path, _MAX_KEY_FILE_BYTES).decode("utf-8", "replace"))


def read_secret(path: Path, what: str) -> bytes:
    """Read 32 bytes written as 64 hex digits on one line; the text enters no message; raises Malformed."""
    text = read_given(path, _MAX_KEY_FILE_BYTES).decode("ascii", "replace").removesuffix("\n")
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Malformed(f"{path}: expected {what} as 64 lower-case hex digits on one line")
    return bytes.fromhex(text)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that was not there; raises AlreadyExists, CouldNotCheck."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as failure:
        raise AlreadyExists(
            f"{path}: expected no file of this name; choose another, or remove it"
        ) from failure
    except OSError as failure:
        raise CouldNotCheck(f"{path}: cannot be written: {failure.strerror}") from failure
    with os.fdopen(fd, "wb") as out:
        out.write(data)
