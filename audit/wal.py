"""The write-ahead file: the log's truth for the entries that its tiles do not safely hold yet.

Guarantees the log that what it reads back is what was committed: a write that a crash tore off the end is
dropped, any other wrong byte is an error. The file is a chain of frames:

    head(base)  then, once per commit,  group(entries)  head(after them)

A group is committed when its fdatasync returned; only then is its tree head signed and written behind it (not
synced: it is worth having after a killed process, and derivable after a power cut). So a damaged group with a
signed head anywhere behind it was committed, and is damage; one with none behind it was never answered.
Source: docs/formats/audit-log.md, "Write-ahead file".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256

from audit.checkpoint import TreeHead, verify_tree_head
from audit.errors import AuditError, Invalid, LogUnavailable, Malformed
from audit.folder import WAL, Folder, write_at
from audit.keys import LogKeys
from audit.note import VerifierKey

MAX_BYTES = 128 * 1024 * 1024

# 0xF5 occurs in no UTF-8 text, so no entry and no tree head can hold a frame's first bytes.
_GROUP = b"\xf5\xf5group\n"
_HEAD = b"\xf5\xf5heads\n"
_LENGTH_BYTES = 4
_DIGEST_BYTES = 32
_PREFIX_BYTES = len(_GROUP) + _LENGTH_BYTES


@dataclass(frozen=True, slots=True)
class Replay:
    """What a write-ahead file holds: entries from `base.size` on, the heads signed over them, torn bytes."""

    base: TreeHead
    base_note: bytes
    entries: list[bytes] = field(default_factory=list)
    heads: list[TreeHead] = field(default_factory=list)
    torn_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Frame:
    kind: bytes
    payload: bytes
    end: int


def encode_group(first: int, entries: Sequence[bytes]) -> bytes:
    """Frame a group of entries, the first of which has index `first`."""
    body = b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    return _encode(_GROUP, first.to_bytes(8, "big") + body)


def encode_head(note: bytes) -> bytes:
    """Frame a signed tree head."""
    return _encode(_HEAD, note)


def parse_write_ahead(data: bytes, keys: VerifierKey | LogKeys) -> Replay:
    """Read a write-ahead file, dropping a torn tail; raises Malformed, BadSignature, Invalid."""
    frame = _parse_frame(data, 0)
    if frame is None or frame.kind != _HEAD:
        raise Malformed("write-ahead file: expected it to begin with a whole tree head; damaged, or not ours")
    replay = Replay(verify_tree_head(frame.payload, keys), frame.payload)
    size, position, open_group = replay.base.size, frame.end, False
    while position < len(data):
        frame = _parse_frame(data, position)
        if frame is None:
            _demand_torn(data, position, size, keys)
            return Replay(replay.base, replay.base_note, replay.entries, replay.heads, len(data) - position)
        if frame.kind == _HEAD:
            head = verify_tree_head(frame.payload, keys)
            _demand(
                open_group and head.size == size, position, f"a group from entry {size}", f"head {head.size}"
            )
            replay.heads.append(head)
        else:
            first, entries = _parse_group(frame.payload, position)
            _demand(not open_group and first == size, position, f"entry {size}", f"entry {first}")
            replay.entries.extend(entries)
            size += len(entries)
        open_group, position = frame.kind == _GROUP, frame.end
    return replay


class WriteAhead:
    """The write-ahead file, open for appending.

    `size` is the number of bytes known to be good, `settled` whether the last group's head stands behind it.
    """

    def __init__(self, folder: Folder, base: int) -> None:
        self._folder = folder
        self._path = str(folder.path / WAL)
        self._home = str(folder.path)
        self.base = base
        self._fd = os.open(WAL, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
        self.size = os.fstat(self._fd).st_size
        self.settled = True

    @classmethod
    def begin(
        cls, folder: Folder, base: TreeHead, base_note: bytes, entries: Sequence[bytes], note: bytes
    ) -> WriteAhead:
        """Put a new file in place, durable when this returns: the old one or the new one survives a crash.

        `entries` are those from `base.size` on, `note` the signed head over all of them. Raises OSError.
        """
        frames = [encode_head(base_note)]
        if entries:
            frames += [encode_group(base.size, entries), encode_head(note)]
        folder.replace(WAL, b"".join(frames))
        folder.sync()
        return cls(folder, base.size)

    def check(self) -> None:
        """Compare the open file with the one that stands at its path; raises LogUnavailable.

        Without this, a deleted or replaced log would go on taking entries that nobody will ever see.
        """
        path = self._path
        self._folder.step()
        try:
            held, found, home = os.fstat(self._fd), os.lstat(path), os.stat(self._home)  # noqa: PTH116  a Path would cost as much as the call
        except OSError as failure:
            raise LogUnavailable(
                f"{path}: expected the open log, found {failure.strerror}: moved or deleted"
            ) from failure
        if (held.st_dev, held.st_ino) != (found.st_dev, found.st_ino):
            raise LogUnavailable(f"{path}: expected the open log, found another file in its place")
        if held.st_nlink != 1:
            raise LogUnavailable(f"{path}: expected one link to the log, found {held.st_nlink}")
        for mode, name in ((held.st_mode, path), (home.st_mode, self._home)):
            if not mode & stat.S_IWUSR:  # asked for even of root, whom the kernel would let write
                raise LogUnavailable(f"{name}: expected it writable, found mode {stat.S_IMODE(mode):04o}")
        if held.st_size != self.size:
            raise LogUnavailable(
                f"{path}: expected {self.size} bytes, found {held.st_size}: somebody else wrote to it"
            )

    def append_group(
        self, first: int, entries: Sequence[bytes], waits: Callable[[], object] | None = None
    ) -> None:
        """Write a group and wait until it is on the disk: from here it is committed; raises OSError.

        `waits` is called before the sync, in place of the folder's `step`.
        """
        with self._undone_by_failure():
            frame = encode_group(first, entries)
            self._folder.step()
            write_at(self._fd, frame, self.size)
            (waits or self._folder.step)()
            os.fdatasync(self._fd)
            self._folder.step()  # who gave up meanwhile must find the group unanswered, and no head behind it
        self.size += len(frame)
        self.settled = False

    def append_head(self, note: bytes) -> None:
        """Write the signed head of what was committed, without waiting for the disk; raises OSError."""
        with self._undone_by_failure():
            frame = encode_head(note)
            self._folder.step()
            write_at(self._fd, frame, self.size)
        self.size += len(frame)
        self.settled = True

    def close(self) -> None:
        """Close the file; safe to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @contextmanager
    def _undone_by_failure(self) -> Iterator[None]:
        """Cut off what a failed append left; where that fails too, the next opening drops it."""
        try:
            yield
        except OSError:
            self._folder.step()
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise


def _encode(kind: bytes, payload: bytes) -> bytes:
    frame = kind + len(payload).to_bytes(_LENGTH_BYTES, "big") + payload
    return frame + sha256(frame).digest()


def _parse_frame(data: bytes, begin: int) -> _Frame | None:
    """Read the frame at a position, or return None if none stands there whole and unchanged."""
    kind = data[begin : begin + len(_GROUP)]
    body = begin + _PREFIX_BYTES
    end = body + int.from_bytes(data[body - _LENGTH_BYTES : body], "big")
    if kind not in {_GROUP, _HEAD} or end + _DIGEST_BYTES > len(data):
        return None
    view = memoryview(data)
    if sha256(view[begin:end]).digest() != view[end : end + _DIGEST_BYTES]:
        return None
    return _Frame(kind, data[body:end], end + _DIGEST_BYTES)


def _parse_group(payload: bytes, where: int) -> tuple[int, list[bytes]]:
    entries: list[bytes] = []
    position = 8
    while position < len(payload):
        begin = position + 2
        position = begin + int.from_bytes(payload[position:begin], "big")
        entries.append(payload[begin:position])
    if position != len(payload) or not entries:
        raise Malformed(f"write-ahead file, byte {where}: the group's last entry is cut off, or it has none")
    return int.from_bytes(payload[:8], "big"), entries


def _demand_torn(data: bytes, begin: int, size: int, keys: VerifierKey | LogKeys) -> None:
    """Refuse a damaged frame that a crash does not explain: a signed head behind it says it was committed."""
    position = data.find(_HEAD, begin)
    while position >= 0:
        head = _signed_head(data, position, keys)
        if head is not None:
            raise Invalid(
                f"write-ahead file, byte {begin}: expected the entries from {size} on, found damage, "
                f"though a tree head for {head.size} entries was signed after it; restore a copy",
            )
        position = data.find(_HEAD, position + 1)


def _signed_head(data: bytes, position: int, keys: VerifierKey | LogKeys) -> TreeHead | None:
    frame = _parse_frame(data, position)
    if frame is None:
        return None
    try:
        return verify_tree_head(frame.payload, keys)
    except AuditError:
        return None


def _demand(holds: bool, where: int, expected: str, found: str) -> None:  # noqa: FBT001  a condition, read at the call
    if not holds:
        raise Invalid(f"write-ahead file, byte {where}: expected {expected}, found {found}")
