"""Small files that commands read and write: bounded when read, never overwritten when written."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import AlreadyExists, ContentRefused, MediumMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SMALL_FILE_BYTES = 1024 * 1024  # keys, requests and signatures are a few KiB
REQUEST_ID = re.compile(r"[0-9a-f]{64}")
MAX_RECIPIENT_CHARS = 4096  # a post-quantum recipient takes about 2,000


def read_small(path: Path, what: str) -> bytes:
    """Read a whole small file. Raises MediumMissing where it is not, ContentRefused where it is too large."""
    try:
        with path.open("rb") as source:
            data = source.read(MAX_SMALL_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as missing:
        raise MediumMissing(f"{what}: no file {path}") from missing
    if len(data) > MAX_SMALL_FILE_BYTES:
        raise ContentRefused(
            f"{what}: {path} is larger than {MAX_SMALL_FILE_BYTES} bytes; is it the right file?"
        )
    return data


def read_text(path: Path, what: str) -> str:
    """Read a small ASCII file, as keys, requests and signatures are. Raises ContentRefused."""
    try:
        return read_small(path, what).decode("ascii")
    except UnicodeDecodeError as broken:
        raise ContentRefused(f"{what}: {path} is not ASCII text; is it the right file?") from broken


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Create a file durably with its final rights from the first byte. Raises AlreadyExists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError as exists:
        raise AlreadyExists(f"{path} exists and is not overwritten") from exists
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


@contextmanager
def folder_descriptor(path: Path, what: str) -> Iterator[int]:
    """Open a folder for handing over to the daemon. Raises MediumMissing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise MediumMissing(f"{what}: no folder {path}") from missing
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def recipient_text(value: str) -> str:
    """Return an age recipient given as itself or as the name of a file that holds one line of it."""
    if value.startswith("age1"):
        return value
    text = read_text(Path(value), "recipient")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1 or not lines[0].startswith("age1") or len(lines[0]) > MAX_RECIPIENT_CHARS:
        raise UsageError(
            f"recipient: expected one line `age1…` in {value}, found {len(lines)} lines of something else"
        )
    return lines[0]


def request_id(value: str) -> str:
    """Return a request's id, given as itself or as the file that officers signed (SHA-256 of it)."""
    if REQUEST_ID.fullmatch(value):
        return value
    return hashlib.sha256(read_small(Path(value), "request")).hexdigest()
