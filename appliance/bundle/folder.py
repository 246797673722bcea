"""A bundle's folder, held by one directory descriptor.

Guarantees to custodian and opener: every name is looked up beneath the descriptor, links are not followed,
and only regular files are opened, so a medium cannot lead a reader to another file, a device or a pipe that
never answers. To whoever finds a half-written folder: `manifest.json` appears last and at once.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.age.stream import WRITE_SIZE
from appliance.bundle.medium import is_foreign, medium_error
from appliance.errors import AlreadyExists, ContentRefused, Incomplete, IntegrityError, MediumMissing

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

MANIFEST = "manifest.json"
SSH_SIGNATURE = "manifest.json.sig"
SUMS = "sha256sums"

UNFINISHED = "unfinished.json"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Not waiting for a writer, should the name be a pipe.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class BundleFolder:
    """One folder; it owns `fd` and closes it at the end of its `with` block."""

    fd: int

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing folder; raise MediumMissing if it is not there."""
        try:
            return cls(os.open(path, _FOLDER_FLAGS))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MediumMissing(
                f"expected a bundle folder at {path}, found none; insert the medium and name its *.bundle"
                " folder"
            ) from error

    @classmethod
    def beneath(cls, parent_fd: int, name: str) -> Self:
        """Open an existing folder beneath an open one, following no link; raises what a medium does."""
        try:
            return cls(os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=parent_fd))
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ContentRefused(f"{name}: expected a folder, found a link or a file") from error
            raise medium_error(error, name) from error

    @classmethod
    def create(cls, parent_fd: int, name: str) -> Self:
        """Make a new folder beneath an open one; raise AlreadyExists rather than reuse one."""
        try:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
        except FileExistsError as error:
            raise AlreadyExists(
                f"expected no {name} yet, found one; remove it or choose another place"
            ) from error
        except OSError as error:
            raise medium_error(error, name) from error
        fd = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=parent_fd)
        # As root: whoever owns the parent could have put a folder of theirs in its place meanwhile, with hard
        # links in it that are not theirs.
        if os.fstat(fd).st_uid != os.geteuid():
            os.close(fd)
            raise ContentRefused(f"expected the folder {name} just made, found another's in its place")
        return cls(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def names(self) -> list[str]:
        """Return the names in the folder, sorted, without those that other systems leave behind."""
        return [name for name in self._all_names() if not is_foreign(name)]

    def foreign(self) -> list[str]:
        """Return the names that other systems left behind, sorted: they are ignored and told."""
        return [name for name in self._all_names() if is_foreign(name)]

    def open_file(self, name: str) -> int:
        """Return a read descriptor of a regular file; raise Incomplete or, if special, ContentRefused."""
        try:
            fd = os.open(name, _READ_FLAGS, dir_fd=self.fd)
        except FileNotFoundError as error:
            raise Incomplete(
                f"expected the file {name} in the bundle, found none; copy the bundle again"
            ) from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise ContentRefused(
                    f"{name}: expected a regular file, found a link or a special file"
                ) from error
            raise medium_error(error, name) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ContentRefused(f"{name}: expected a regular file, found something else")
        return fd

    def read_file(self, name: str, max_bytes: int) -> bytes:
        """Return a whole small file; raise ContentRefused if it is larger than allowed."""
        try:
            with os.fdopen(self.open_file(name), "rb") as source:
                data = source.read(max_bytes + 1)
        except OSError as error:
            raise medium_error(error, name) from error
        if len(data) > max_bytes:
            raise ContentRefused(f"{name}: expected at most {max_bytes} bytes, found more")
        return data

    def create_file(self, name: str) -> int:
        """Return a read and write descriptor of a new file."""
        try:
            return os.open(name, _WRITE_FLAGS, 0o644, dir_fd=self.fd)
        except FileExistsError as error:
            raise AlreadyExists(f"expected no {name} in the new bundle, found one") from error
        except OSError as error:
            raise medium_error(error, name) from error

    def write_file(self, name: str, data: bytes) -> None:
        """Write a new small file durably; raise IntegrityError if the medium gives other bytes back."""
        fd = self.create_file(name)
        try:
            write_all(fd, memoryview(data), name)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            found = os.pread(fd, len(data) + 1, 0)
        except OSError as error:
            raise medium_error(error, name) from error
        finally:
            os.close(fd)
        if found != data:
            raise IntegrityError(
                f"{name}: expected the bytes just written, found others; the medium is broken"
            )

    def publish_manifest(self, data: bytes) -> None:
        """Write `manifest.json` under another name and rename it: all other files are durable before it."""
        os.fsync(self.fd)
        self.replace_file(MANIFEST, data)

    def replace_file(self, name: str, data: bytes) -> None:
        """Write a small file beside and rename it into place, durably: the old one, or the new one whole."""
        scratch = f"{name.partition('.')[0]}.new"
        self.remove_file(scratch)
        self.write_file(scratch, data)
        try:
            os.rename(scratch, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            os.fsync(self.fd)
        except OSError as error:
            raise medium_error(error, name) from error

    def hand_over(self, uid: int) -> None:
        """Leave folder and files to a user, where we may: as root we would keep them otherwise."""
        if os.geteuid() == 0 and uid != 0:
            for name in self.names():
                os.chown(name, uid, -1, dir_fd=self.fd, follow_symlinks=False)
            os.chown(self.fd, uid, -1)

    def remove_file(self, name: str) -> None:
        """Remove a file if it is there."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise medium_error(error, name) from error

    def remove_files(self) -> None:
        """Remove what an interrupted writer left in the folder."""
        for name in self._all_names():
            os.unlink(name, dir_fd=self.fd)

    def _all_names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.fd))  # noqa: PTH208  a descriptor, not a path
        except OSError as error:
            raise medium_error(error, "the bundle's folder") from error


def write_beside(path: Path, data: bytes) -> None:
    """Replace a small file durably; raises what a full or vanished medium does."""
    with BundleFolder.open(path.parent) as folder:
        folder.replace_file(path.name, data)


def write_all(fd: int, data: memoryview, name: str) -> None:
    """Write every byte; raise SpaceExhausted where there is no room, MediumMissing where nothing answers."""
    try:
        while data:
            data = data[os.write(fd, data[:WRITE_SIZE]) :]
    except OSError as error:
        raise medium_error(error, name) from error
