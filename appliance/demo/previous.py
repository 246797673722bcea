"""The demo's own folder: one demo in it at a time, and nothing of an earlier one left, its daemon included.

Guarantees: a folder that no demo made is never emptied, and a process is only ended after the kernel has
said, on a handle that cannot come to mean another process, that it is a custodian of this user.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Self

from appliance.client import connect
from appliance.errors import AlreadyExists, ApplianceError, Busy

# Says that the folder may be emptied, is locked by the demo at work, and names its daemon.
MARK = "made-by-make-demo"
HOME = "home"
ANSWER_S = 10.0
END_S = 60.0  # a job may be saving its last checkpoint
KILL_S = 5.0
MAX_MARK_BYTES = 64
CUSTODIAN = b"appliance.custodian"


class Ground:
    """A folder held by this demo, until `close` or the end of the process."""

    def __init__(self, folder: Path, mark: int) -> None:
        self.folder = folder
        self._mark = mark

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Take a new or empty folder, or one that an earlier demo made, with whatever is still in it.

        Raises AlreadyExists for any other, Busy while another demo works in it.
        """
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise AlreadyExists(f"{folder}: expected a folder or nothing, found something else; move it away")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise AlreadyExists(
                f"{folder}: expected a folder that an earlier demo made, found one without the file {MARK}; "
                "move it away, it is not the demo's to remove"
            )
        folder.mkdir(exist_ok=True)
        mark = os.open(folder / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            os.close(mark)
            raise Busy(f"another demo is at work in {folder}: wait for it, or end it with Ctrl-C") from held
        return cls(folder, mark)

    def record(self, daemon: int) -> None:
        """Remember the daemon's pid for the demo after this one."""
        os.ftruncate(self._mark, 0)
        os.pwrite(self._mark, f"{daemon}\n".encode(), 0)

    def recorded(self) -> int | None:
        """Return the pid that the demo before this one remembered."""
        text = os.pread(self._mark, MAX_MARK_BYTES, 0).strip()
        return int(text) if text.isdigit() else None

    def end_daemon(self) -> int | None:
        """End the daemon of the home in this folder, if one runs; return its pid."""
        home = self.folder / HOME
        answering = answering_pid(home)
        if answering is not None:
            return answering if end(answering, None) else None
        recorded = self.recorded()
        return recorded if recorded is not None and end(recorded, home) else None

    def clear(self) -> None:
        """Remove everything but the mark."""
        for child in self.folder.iterdir():
            if child.name == MARK:
                continue
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
        os.ftruncate(self._mark, 0)

    def close(self) -> None:
        """Let the next demo in."""
        os.close(self._mark)


def answering_pid(home: Path) -> int | None:
    """Return the pid of the daemon that answers on this home's socket, if one does in time."""
    try:
        with connect(home, timeout_s=ANSWER_S) as client:
            return int(client.call("Status", {})["pid"])
    except (ApplianceError, OSError):
        return None


def end(pid: int, home: Path | None) -> bool:
    """End a custodian of this user, of `home` unless None; False if this pid is no such process.

    Asked first: it then stops its jobs and closes its log. Its workers and front die with it.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not is_custodian(pid, home):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not _gone(handle, END_S):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                _gone(handle, KILL_S)
        return True
    finally:
        os.close(handle)


def is_custodian(pid: int, home: Path | None) -> bool:
    """Tell whether a process of this user is a custodian, of `home` unless None."""
    folder = Path("/proc") / str(pid)
    try:
        arguments = (folder / "cmdline").read_bytes().split(b"\0")
        # The folder's owner is root for a process that protects its memory; the status names the real user.
        owners = [line for line in (folder / "status").read_text().splitlines() if line.startswith("Uid:")]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    ours = owners[0].split()[1] == str(os.getuid())
    at_home = home is None or os.fsencode(home.absolute()) in arguments
    return ours and CUSTODIAN in arguments and at_home


def _gone(handle: int, timeout_s: float) -> bool:
    waiting = select.poll()
    waiting.register(handle, select.POLLIN)
    return bool(waiting.poll(timeout_s * 1000))
