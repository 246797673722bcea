"""A log's folder: files read within bounds, and replaced so that a crash leaves the old or the new one.

Guarantees that a file read is a plain file of bounded size, reached through no symbolic link as its last
step, and that what `replace` wrote is on the disk once `sync` returned. All paths are relative to one open
directory, so writes follow the folder they began in, not whatever has taken its name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Self

from audit.errors import CouldNotCheck, Malformed

# What a log's folder holds, beside the folder of tiles.
CHECKPOINT = "checkpoint"
TILES = "tile"
WAL = "wal"
LOCK = "lock"
RESERVE = "reserve"
VKEY = "log.vkey"
PQ_VKEY = "log-pq.vkey"
EPOCHS = "epoch"
WITNESSED = "witnessed"  # the newest head that enough witnesses cosigned
INCOMING = "incoming"  # the one name under which a file is written before it takes its place

_READ = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
)  # NONBLOCK: a planted pipe must not hang us
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """An open directory; close it, or use it as a context manager.

    `step` is called before each operation that changes something; what it raises keeps that from being begun.
    """

    def __init__(self, path: Path, step: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.step = step
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as failure:
            raise CouldNotCheck(f"{path}: expected the folder of a log: {failure.strerror}") from failure
        self._unsynced: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory; safe to repeat."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, name: str, limit: int) -> bytes:
        """Read a whole plain file of at most `limit` bytes; raises CouldNotCheck, Malformed."""
        data = self.read_if_present(name, limit)
        if data is None:
            raise CouldNotCheck(
                f"{self.path / name}: expected a file, found none; is the copy of the log complete?"
            )
        return data

    def read_if_present(self, name: str, limit: int) -> bytes | None:
        """Read as `read` does, or return None where no such file is."""
        try:
            fd = os.open(name, _READ, dir_fd=self.fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as failure:  # ELOOP: a symbolic link; EACCES: not ours to read
            raise CouldNotCheck(f"{self.path / name}: cannot be read: {failure.strerror}") from failure
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Malformed(f"{self.path / name}: expected a plain file")
            return self._read_bounded(fd, name, limit)
        finally:
            os.close(fd)

    def is_present(self, name: str) -> bool:
        """Tell whether anything stands at a path below the folder."""
        try:
            os.lstat(name, dir_fd=self.fd)
        except OSError:
            return False
        return True

    def names(self, name: str = ".") -> Iterator[os.DirEntry[str]]:
        """List a folder below this one; an absent folder lists nothing; raises CouldNotCheck."""
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as failure:
            raise CouldNotCheck(f"{self.path / name}: expected a folder: {failure.strerror}") from failure
        try:
            with os.scandir(fd) as found:
                yield from found
        finally:
            os.close(fd)

    def replace(self, name: str, data: bytes) -> None:
        """Put a file in place by rename, its bytes synced; `sync` makes the name durable; raises OSError."""
        self._write_incoming(data)
        parent = str(PurePosixPath(name).parent)
        self._make(parent)
        self.step()
        os.rename(INCOMING, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        self._unsynced |= {parent, "."}

    def sync(self) -> None:
        """Make every name written since the last call durable; raises OSError."""
        for name in sorted(self._unsynced):
            self._sync_directory(name)
        self._unsynced.clear()

    def remove_folder(self, name: str) -> None:
        """Delete a folder of plain files, if it is there; raises OSError."""
        for entry in list(self.names(name)):
            self.step()
            os.unlink(f"{name}/{entry.name}", dir_fd=self.fd)
        self.step()
        try:
            os.rmdir(name, dir_fd=self.fd)
        except FileNotFoundError:
            return

    def _write_incoming(self, data: bytes) -> None:
        self.step()
        fd = os.open(INCOMING, _WRITE, 0o640, dir_fd=self.fd)
        try:
            write_at(fd, data, 0)
            self.step()
            os.fsync(fd)
        except OSError:
            self.step()
            with suppress(OSError):
                os.ftruncate(fd, 0)  # on a full disk, give back at once what did not fit
            raise
        finally:
            os.close(fd)

    def _make(self, name: str) -> None:
        """Create a folder and its parents, each recorded for `sync` in the folder above it."""
        path = PurePosixPath(name)
        for step in [*reversed(path.parents), path]:
            self.step()
            try:
                os.mkdir(step, 0o750, dir_fd=self.fd)
            except FileExistsError:
                continue
            self._unsynced.add(str(step.parent))

    def _sync_directory(self, name: str) -> None:
        self.step()
        fd = os.open(name, _DIRECTORY, dir_fd=self.fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _read_bounded(self, fd: int, name: str, limit: int) -> bytes:
        parts: list[bytes] = []
        room = limit + 1
        try:
            while room and (part := os.read(fd, min(room, 1 << 20))):
                parts.append(part)
                room -= len(part)
        except OSError as failure:
            raise CouldNotCheck(f"{self.path / name}: cannot be read: {failure.strerror}") from failure
        if not room:
            raise Malformed(f"{self.path / name}: expected at most {limit} bytes, found more")
        return b"".join(parts)


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`, however many calls that takes; raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
