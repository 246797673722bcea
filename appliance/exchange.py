"""New headers for many objects: written beside the old ones, made durable together, then renamed.

    put       header.next beside header          a crash leaves the old header, and a file nobody reads
    settle    syncfs, then header.next → header  a crash leaves the old header or the new one, whole

Guarantees that at no moment an object is without a header, and that a full disk leaves the batch as it was.
One syncfs serves a whole batch: durable one by one, ten thousand headers would wait ten thousand times.
Source: syncfs(2), rename(2).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path

from appliance.errors import ApplianceError, SpaceExhausted
from appliance.vault import HEADER, SECRET_FILE, Vault

NEXT = "header.next"
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_libc = ctypes.CDLL(None, use_errno=True)


class HeaderExchange:
    """One batch of new headers; close it with `settle` or `discard`."""

    def __init__(self, vault: Vault, root: Path) -> None:
        self._vault = vault
        self._root = root
        self._folders: list[int] = []
        self.sync_s = 0.0
        """Seconds spent in syncfs, as the loop's clock has them."""

    def put(self, object_id: str, header: bytes) -> None:
        """Write one new header beside the old one; raises SpaceExhausted, UnknownObject.

        The folder stays open, so that an object which is published meanwhile is followed to its new place.
        """
        folder = self._vault.open_folder(object_id)
        self._folders.append(folder)
        try:
            fd = os.open(
                NEXT,
                os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
                SECRET_FILE,
                dir_fd=folder,
            )
            with os.fdopen(fd, "wb") as stream:
                stream.write(header)
        except OSError as error:
            raise _failed(error, f"object {object_id}") from error

    async def settle(self) -> None:
        """Make the batch durable and put it in place; the disk is waited for in a thread."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.to_thread(sync_file_system, self._root)
        self.sync_s += loop.time() - began
        try:
            for folder in self._folders:
                with suppress(FileNotFoundError):  # removed meanwhile: it is no object any more
                    os.rename(NEXT, HEADER, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise _failed(error, f"headers in {self._root}") from error
        self._close()

    def discard(self) -> None:
        """Remove what was written and not put in place."""
        for folder in self._folders:
            try:
                os.unlink(NEXT, dir_fd=folder)
            except FileNotFoundError:
                continue
        self._close()

    def _close(self) -> None:
        for folder in self._folders:
            os.close(folder)
        self._folders.clear()


def sync_file_system(path: Path) -> None:
    """Have the file system that holds a folder write all it has; raises SpaceExhausted, ApplianceError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            error = OSError(code, os.strerror(code))
            raise _failed(error, str(path)) from error
    finally:
        os.close(fd)


def _failed(error: OSError, what: str) -> ApplianceError:
    if error.errno in _NO_SPACE:
        return SpaceExhausted(
            f"{what}: no space for a new header; every object opens as before; free some and repeat"
        )
    return ApplianceError(
        f"{what}: the disk failed: {error.strerror}; every object opens as before; repeat once it is mended"
    )
