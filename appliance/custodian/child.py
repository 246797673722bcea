"""A child process of the custodian: started by exec, known by a pidfd, ended by SIGKILL.

A child inherits the descriptors that are listed for it and no others, an environment that is listed, and an
interpreter in isolated mode (`-I`: no user site, no current folder, no PYTHON* variables). Its standard
output and error go to a bounded buffer that is sealed as a report and never shown: a worker's free text could
carry weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from appliance.messages import Channel

MAX_REPORT_BYTES = 256 * 1024
CHANNEL_FD = 3
_FIRST = -20
FIRST_EXTRA_FD = 4


class Child:
    """One running child and the channel to it."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        extra: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start `python -I -m module …`, its channel as descriptor 3 and `extra` from 4 upward."""
        with ExitStack() as undo, ExitStack() as theirs:  # short of descriptors, a start must not keep some
            ours, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.enter_context(far)
            undo.enter_context(ours)
            report_read, report_write = os.pipe()
            undo.callback(os.close, report_read)
            theirs.callback(os.close, report_write)
            null = os.open(os.devnull, os.O_RDWR)
            theirs.callback(os.close, null)
            # A descriptor may stand where another is to go: lift them all clear of the target range first.
            lifted = []
            wanted = [null, report_write, report_write, far.fileno(), *extra]
            for descriptor in wanted:
                lifted.append(_lift(descriptor, len(wanted)))
                theirs.callback(os.close, lifted[-1])
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-m", module, *arguments],
                dict(environment or {}),
                file_actions=[(os.POSIX_SPAWN_DUP2, source, target) for target, source in enumerate(lifted)],
            )
            theirs.close()  # room for one more
            self.pidfd = os.pidfd_open(self.pid)
            undo.pop_all()
        self._reaping = threading.Lock()
        self.channel = Channel(ours)
        self.report = bytearray()
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._report_fd = report_read
        os.set_blocking(report_read, False)
        loop = asyncio.get_running_loop()
        loop.add_reader(report_read, self._read_report)
        loop.add_reader(self.pidfd, self._reap)

    def kill(self) -> None:
        """End the child now; harmless when it has ended already."""
        with self._reaping:  # from any thread: a number that was closed may be another process's by now
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
                with contextlib.suppress(OSError):  # where we may: its end comes before whatever else runs
                    os.setpriority(os.PRIO_PROCESS, self.pid, _FIRST)

    def _read_report(self) -> None:
        try:
            data = os.read(self._report_fd, 65536)
        except BlockingIOError:
            return
        room = MAX_REPORT_BYTES - len(self.report)
        self.report += data[:room]
        if not data:
            self._close_report()

    def _close_report(self) -> None:
        if self._report_fd >= 0:
            asyncio.get_running_loop().remove_reader(self._report_fd)
            os.close(self._report_fd)
            self._report_fd = -1

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.pidfd)
        status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        with self._reaping:
            os.close(self.pidfd)
            self.pidfd = -1
        if self._report_fd >= 0:
            self._read_report()
        self._close_report()
        if not self.exited.done():
            self.exited.set_result(status.si_status if status is not None else -1)


def _lift(descriptor: int, above: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above)
