"""The vault: one folder per sealed object, complete or absent, never half there.

    <vault>/<object id>/{header,payload}            published, immutable
    <vault>/.incoming/<object id>/{header,payload}  being written; removed at the next start

Guarantees: `publish` renames a whole folder after its bytes are durable, so a crash leaves either nothing or
all of an object; a full disk raises SpaceExhausted and leaves nothing; no symbolic link is followed. The
vault holds ciphertext only and never a key (`object_id` takes one to name an object, and keeps nothing).
Source: docs/formats/sealed-objects.md.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.age.header import MAX_HEADER_SIZE, NONCE_SIZE
from appliance.age.hkdf import hkdf_sha256
from appliance.errors import (
    AlreadyExists,
    ApplianceError,
    Busy,
    Incomplete,
    IntegrityError,
    SpaceExhausted,
    UnknownObject,
)

_OBJECT_ID = re.compile(r"[0-9a-f]{64}")
_INCOMING = ".incoming"
HEADER = "header"
_PAYLOAD = "payload"
SECRET_FILE = 0o600
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def object_id(file_key: bytes | bytearray, nonce: bytes) -> str:
    """Name an object: HKDF-SHA-256 of its file key, salted by its nonce, as 64 hex digits.

    Rotation, which only rewraps the file key, keeps the name; a swapped header or payload changes it.
    """
    return hkdf_sha256(file_key, nonce, b"appliance object id").hex()


def check_object_id(text: str) -> str:
    """Return the id when it has the shape of one; raises UnknownObject: it is also a file name."""
    if not _OBJECT_ID.fullmatch(text):
        raise UnknownObject(f"object id: expected 64 lower-case hex digits, found {text[:80]!r}")
    return text


class Vault:
    """The folder of sealed objects; one custodian at a time uses it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self) -> None:
        """Make the empty folders; nothing happens when they are there."""
        (self._root / _INCOMING).mkdir(mode=0o700, parents=True, exist_ok=True)

    # ---- reading ---------------------------------------------------------------------------------

    def header(self, object_id: str) -> bytes:
        """Return a published object's header; raises UnknownObject or Incomplete."""
        return self._read_header(object_id, staged=False)

    def open_payload(self, object_id: str) -> int:
        """Return a read descriptor on a published payload (nonce, chunks), which the caller closes."""
        return self._open(object_id, _PAYLOAD, staged=False)

    def nonce(self, object_id: str, *, staged: bool = False) -> bytes:
        """Return the 16-byte nonce in front of a payload; raises IntegrityError when it is cut."""
        fd = self._open(object_id, _PAYLOAD, staged=staged)
        try:
            return _nonce(object_id, fd)
        finally:
            os.close(fd)

    def front(self, object_id: str) -> tuple[bytes, bytes]:
        """Return header and nonce of an object, published or staged; raises as `header` and `nonce` do."""
        folder = self.open_folder(object_id)
        try:
            with os.fdopen(self._open_file(folder, object_id, HEADER), "rb") as stream:
                header = _bounded(object_id, stream.read(MAX_HEADER_SIZE + 1))
            payload = self._open_file(folder, object_id, _PAYLOAD)
            try:
                return header, _nonce(object_id, payload)
            finally:
                os.close(payload)
        finally:
            os.close(folder)

    def is_staged(self, object_id: str) -> bool:
        """Say whether an object is being written and not yet published."""
        return (self._root / _INCOMING / check_object_id(object_id)).is_dir()

    def staged(self) -> tuple[str, ...]:
        """Return the ids of what is being written, in order."""
        return tuple(sorted(path.name for path in (self._root / _INCOMING).iterdir()))

    def open_folder(self, object_id: str) -> int:
        """Return a descriptor of an object's folder, published or staged, which the caller closes."""
        name = check_object_id(object_id)
        for parent in (self._root, self._root / _INCOMING):
            try:
                return os.open(f"{parent}/{name}", _FOLDER)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise IntegrityError(f"object {name}: expected a folder, found: {error.strerror}") from error
        raise UnknownObject(f"object {name}: expected it published in {self._root}, found nothing")

    def staged_header(self, object_id: str) -> bytes:
        """Return the header of an object that is being written."""
        return self._read_header(object_id, staged=True)

    def open_staged(self, object_id: str) -> int:
        """Return a read descriptor on an unpublished payload: for the worker that verifies it.

        Raises Busy while somebody still has it open for writing: what is verified now could be changed before
        it is published.
        """
        fd = self._open(object_id, _PAYLOAD, staged=True)
        try:
            _refuse_writers(fd, object_id)
        except BaseException:
            os.close(fd)
            raise
        return fd

    # ---- writing ---------------------------------------------------------------------------------

    def stage(self, object_id: str, header: bytes, nonce: bytes) -> int:
        """Begin an object; returns a write descriptor after the nonce, for the worker's chunks.

        Raises AlreadyExists, or SpaceExhausted with nothing left behind.
        """
        folder = self._root / _INCOMING / check_object_id(object_id)
        if (self._root / object_id).exists():
            raise AlreadyExists(
                f"object {object_id}: expected no such object, found one; objects are immutable"
            )
        with self._all_or_nothing(object_id):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError as error:
                raise AlreadyExists(f"object {object_id}: expected nothing staged, found it begun") from error
        with self._all_or_nothing(object_id), _opened(folder, _FOLDER) as directory:
            fd = os.open(HEADER, _CREATE, SECRET_FILE, dir_fd=directory)
            with os.fdopen(fd, "wb") as stream:
                stream.write(header)
                stream.flush()
                os.fsync(fd)
            payload = os.open(_PAYLOAD, _CREATE, SECRET_FILE, dir_fd=directory)
            try:
                _write_all(payload, nonce)
            except BaseException:
                os.close(payload)
                raise
            return payload

    def publish(self, object_id: str) -> int:
        """Make a staged object durable and visible; returns the payload's bytes on disk.

        Order: payload and header durable, folder durable, rename, parents durable. A crash before the rename
        leaves a leftover for `recover`, one after it the whole object. Raises Busy while somebody still has
        the payload open for writing: a worker could change it after its content was checked.
        """
        folder = self._root / _INCOMING / check_object_id(object_id)
        with self._all_or_nothing(object_id), self._staged_folder(object_id) as directory:
            size = self._settle(object_id)
            os.fsync(directory)
            if (self._root / object_id).exists():
                raise AlreadyExists(f"object {object_id}: expected no such object, found one")
            folder.rename(self._root / object_id)
            self._sync_parents()
            return size

    def discard(self, object_id: str) -> None:
        """Remove what was staged under an id; nothing happens when there is nothing."""
        _remove(self._root / _INCOMING / check_object_id(object_id))

    def holds(self, object_id: str) -> bool:
        """Say whether a published folder of this id is there, whatever is in it."""
        return (self._root / check_object_id(object_id)).exists()

    def remove(self, object_id: str) -> bool:
        """Remove a published object; returns whether there was one. Its bytes are not overwritten."""
        folder = self._root / check_object_id(object_id)
        if not folder.exists():
            return False
        _remove(folder)
        self._sync_parents()
        return True

    def recover(self) -> tuple[str, ...]:
        """Remove what an earlier process left half-written; returns the names. Run it first."""
        names = sorted(path.name for path in (self._root / _INCOMING).iterdir())
        for name in names:
            _remove(self._root / _INCOMING / name)
        return tuple(names)

    # ---- looking after ---------------------------------------------------------------------------

    def objects(self) -> tuple[str, ...]:
        """Return the ids of all published folders, in order; a foreign name raises IntegrityError."""
        names = self.folders()
        for name in names:
            if not _OBJECT_ID.fullmatch(name):
                raise IntegrityError(f"vault {self._root}: expected object folders only, found {name[:80]!r}")
        return names

    def folders(self) -> tuple[str, ...]:
        """Return the names of all that was published, or put there; in order."""
        return tuple(sorted(path.name for path in self._root.iterdir() if path.name != _INCOMING))

    def orphans(self, catalogued: Iterable[str]) -> tuple[str, ...]:
        """Return published ids that the catalog does not name: a crash came between rename and catalog."""
        return tuple(sorted(set(self.objects()) - set(catalogued)))

    def damaged(self, catalogued: Iterable[str]) -> tuple[str, ...]:
        """Return catalogued ids whose folder lacks its header or its payload."""
        return tuple(name for name in sorted(set(catalogued)) if not self._complete(name))

    # ---- inside ----------------------------------------------------------------------------------

    def _settle(self, object_id: str) -> int:
        """Make a staged payload read-only and durable; returns its size. `stage` synced the header."""
        fd = self.open_staged(object_id)
        try:
            os.fchmod(fd, 0o400)
            os.fsync(fd)
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _complete(self, object_id: str) -> bool:
        try:
            self.header(object_id)
            os.close(self.open_payload(object_id))
        except (UnknownObject, Incomplete, IntegrityError):
            return False
        return True

    def _read_header(self, object_id: str, *, staged: bool) -> bytes:
        with os.fdopen(self._open(object_id, HEADER, staged=staged), "rb") as stream:
            return _bounded(object_id, stream.read(MAX_HEADER_SIZE + 1))

    def _open(self, object_id: str, name: str, *, staged: bool) -> int:
        parent = self._root / _INCOMING if staged else self._root
        try:
            with _opened(parent / check_object_id(object_id), _FOLDER) as directory:
                return self._open_file(directory, object_id, name)
        except FileNotFoundError as error:
            state = "staged" if staged else "published"
            raise UnknownObject(
                f"object {object_id}: expected it {state} in {parent}, found nothing"
            ) from error
        except OSError as error:
            raise IntegrityError(f"object {object_id}: expected a folder, found: {error.strerror}") from error

    def _open_file(self, directory: int, object_id: str, name: str) -> int:
        try:
            return os.open(name, _READ, dir_fd=directory)
        except OSError as error:
            raise Incomplete(
                f"object {object_id}: expected a file {name}, found: {error.strerror}; restore it "
                "from a backup"
            ) from error

    @contextlib.contextmanager
    def _staged_folder(self, object_id: str) -> Iterator[int]:
        try:
            fd = os.open(self._root / _INCOMING / object_id, _FOLDER)
        except FileNotFoundError as error:
            raise UnknownObject(f"object {object_id}: expected it staged, found nothing") from error
        try:
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _all_or_nothing(self, object_id: str) -> Iterator[None]:
        """On a failing disk remove what was staged and say which failure it was."""
        try:
            yield
        except OSError as error:
            self.discard(object_id)
            if error.errno in _NO_SPACE:
                raise SpaceExhausted(
                    f"object {object_id}: no space in {self._root}; nothing of it was kept; "
                    "free some and repeat"
                ) from error
            raise ApplianceError(
                f"object {object_id}: the disk under {self._root} failed: {error.strerror}; it counts as "
                "not written"
            ) from error

    def _sync_parents(self) -> None:
        for path in (self._root / _INCOMING, self._root):
            with _opened(path, _FOLDER) as fd:
                os.fsync(fd)


def _nonce(object_id: str, payload: int) -> bytes:
    nonce = os.pread(payload, NONCE_SIZE, 0)
    if len(nonce) != NONCE_SIZE:
        raise IntegrityError(
            f"object {object_id}: expected a nonce of {NONCE_SIZE} bytes in front of its payload, found "
            f"{len(nonce)}"
        )
    return nonce


def _bounded(object_id: str, header: bytes) -> bytes:
    if len(header) > MAX_HEADER_SIZE:
        raise IntegrityError(f"object {object_id}: expected a header of at most {MAX_HEADER_SIZE} bytes")
    return header


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _remove(path: Path) -> None:
    """Remove a leftover, whatever its kind; a link is removed, not followed."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def _refuse_writers(fd: int, object_id: str) -> None:
    """Raise Busy while any process can still write the file (fcntl(2): a read lease needs no writer).

    KNOWN: a file system without leases cannot tell; there the payload's digest in the log is the only guard.
    """
    try:
        fcntl.fcntl(
            fd, fcntl.F_SETSIG, signal.SIGURG
        )  # a lease broken meanwhile must not kill us (SIGIO would)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            raise Busy(
                f"object {object_id}: expected nobody to have its payload open for writing, found a writer; "
                "close it before publishing"
            ) from error
        if error.errno not in {errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP}:
            raise
