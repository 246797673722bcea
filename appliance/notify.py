"""What a service manager hears and hands over: ready, alive, ending; a listening socket that it bound.

Guarantee: without a manager (no NOTIFY_SOCKET, no LISTEN_FDS) nothing happens and nothing is needed. A socket
is taken only if it was meant for this very process and is a listening Unix socket.

Source: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3); all three are environment variables and one
datagram, without a library.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from appliance.errors import UsageError

FIRST_FD = 3  # SD_LISTEN_FDS_START
READY, ALIVE, ENDING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(word: str, environment: Mapping[str, str] = os.environ) -> None:
    """Tell the manager, if there is one; a manager that is gone is nobody's trouble."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        telling.setblocking(False)
        telling.sendto(word.encode("ascii"), address)


def inherited_listener(environment: Mapping[str, str] = os.environ) -> socket.socket | None:
    """Return the socket that the manager bound, None where it bound none; raises UsageError for another kind.

    The manager's own descriptor stays open and inheritable: the fresh process after a sealing takes it again.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    if environment.get("LISTEN_FDS") != "1":
        found = environment.get("LISTEN_FDS")
        raise UsageError(f"expected one socket of the manager, found {found}: see appliance.socket")
    listener = socket.socket(fileno=os.dup(FIRST_FD))
    kind = listener.family, listener.type, listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if kind != (socket.AF_UNIX, socket.SOCK_STREAM, 1):
        listener.close()
        raise UsageError(
            "expected a listening Unix socket of the manager, found another: see appliance.socket"
        )
    os.set_inheritable(FIRST_FD, True)
    return listener
