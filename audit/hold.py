"""What an open log holds beside its write-ahead file: the lock of its folder, and room for a last entry.

Guarantees that one process at a time appends, and that a full disk can still be logged as the reason of an
end. Both are given back when `held` is closed, or by the kernel when the process ends.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack

from audit.errors import LogBusy
from audit.folder import LOCK, RESERVE, Folder

# Tuning: the last entry, and in most cases the publication of what came before it.
RESERVE_BYTES = 2 << 20


def take_lock(folder: Folder, held: ExitStack) -> None:
    """Lock the folder for this process; raises LogBusy while another has it, OSError."""
    fd = _open_beside(folder, LOCK, held)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as failure:
        raise LogBusy(f"{folder.path}: another process has this log open; stop it first") from failure


def hold_reserve(folder: Folder, held: ExitStack) -> int:
    """Take room on the disk; returns the descriptor, to be truncated when it is needed; raises OSError."""
    fd = _open_beside(folder, RESERVE, held)
    os.posix_fallocate(fd, 0, RESERVE_BYTES)
    return fd


def _open_beside(folder: Folder, name: str, held: ExitStack) -> int:
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640, dir_fd=folder.fd)
    held.callback(os.close, fd)
    return fd
