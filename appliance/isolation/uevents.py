"""Devices as the kernel announces them: radios, modems, adapters and fabrics that no interface shows yet.

Guarantees, to the watch: as `rtnetlink`, everything that was told since the last read, and that something was
lost. A stick that is plugged in is no way out and is no finding.

Source: Documentation/driver-api/driver-model (kobject uevents); lib/kobject_uevent.c of Linux.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from appliance.errors import ProtocolError
from appliance.isolation.rtnetlink import LOST, received

_PROTOCOL = 15  # NETLINK_KOBJECT_UEVENT
_KERNEL_GROUP = 1
_BUFFER_BYTES = 1 << 20
_COMING = frozenset({"add", "bind", "online", "move", "change"})
_WAYS_OUT = frozenset(
    {
        "net",
        "bluetooth",
        "rfkill",
        "ieee80211",
        "wwan",
        "infiniband",
        "infiniband_verbs",
        "nfc",
        "ieee802154",
        "ipmi",
    }
)
_LOOPBACK = "/devices/virtual/net/lo"


def parse_uevent(data: bytes) -> Mapping[str, str]:
    """Return the variables of one announcement, such as ACTION and SUBSYSTEM. Raises ProtocolError."""
    head, *rest = data.rstrip(b"\0").split(b"\0")
    pairs = [item.partition(b"=") for item in rest]
    if b"@" not in head or any(not mark for _, mark, _ in pairs):
        raise ProtocolError("expected an announcement of the kernel, found something else")
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, _, value in pairs}


def finding(told: Mapping[str, str]) -> str:
    """Return what is wrong with an announcement, "" where nothing is."""
    way_out = told.get("SUBSYSTEM") in _WAYS_OUT and told.get("ACTION") in _COMING
    if not way_out or told.get("DEVPATH") == _LOOPBACK:
        return ""
    return f"device {told['ACTION']}: {told['SUBSYSTEM']} {told.get('DEVPATH', '')[:120]}"


class Monitor:
    """Wakes on each device that the kernel announces."""

    def __init__(self, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _PROTOCOL)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self._socket.setblocking(False)
        self._socket.bind((0, _KERNEL_GROUP))

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def read(self) -> list[str]:
        """Return what is wrong with all that was announced since."""
        found: list[str] = []
        for data in received(self._socket):
            if data is None:
                found.append(LOST)
                continue
            try:
                told = finding(parse_uevent(data))
            except ProtocolError as malformed:
                told = str(malformed)
            found += [told] if told else []
        return found
