"""What the kernel tells about links, addresses and routes: read whole, or named as lost."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ProtocolError
from appliance.isolation import rtnetlink
from appliance.isolation.rtnetlink import Change, Monitor, finding, links, parse_changes

IN_A_NETWORK_OF_ITS_OWN = ["unshare", "--net", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + bytes(-len(body) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def link(index: int, name: bytes) -> bytes:
    return struct.pack("=BxHiII", 0, 1, index, 1, 0) + attribute(3, name + b"\0")


def route(*attributes: bytes) -> bytes:
    return struct.pack("=8BI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + b"".join(attributes)


def test_each_kind_of_message_is_read():
    told = (
        message(16, link(2, b"eth0"))
        + message(17, link(3, b"usb0"))
        + message(20, struct.pack("=BBBBI", 2, 24, 0, 0, 2))
        + message(24, route(attribute(4, struct.pack("=i", 2))))
        + message(24, route(attribute(9, bytes(8))))
        + message(24, route())
        + message(28, b"a neighbour, which nobody asked for")
    )
    assert list(parse_changes(told)) == [
        Change("link", False, 2, "eth0"),
        Change("link", True, 3, "usb0"),
        Change("address", False, 2, ""),
        Change("route", False, 2, ""),
        Change("route", False, -1, ""),
        Change("route", False, 0, ""),
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (Change("link", False, 1, "renamed"), ""),
        (Change("route", False, 0, ""), ""),
        (Change("link", False, 4, "lo"), "link there: lo"),  # a name proves nothing
        (Change("link", True, 2, "wlan0"), "link gone: wlan0"),
        (Change("route", False, -1, ""), "route there: interface -1"),
    ],
)
def test_everything_but_loopback_is_a_finding(change, told):
    assert finding(change) == told


@pytest.mark.parametrize(
    "data",
    [
        b"short",
        struct.pack("=IHHII", 4, 16, 0, 0, 0),
        struct.pack("=IHHII", 400, 16, 0, 0, 0),
        message(16, b"\0\0"),
        message(24, b"\0\0"),
        message(24, route(attribute(4, b"\0"))),
        message(16, link(2, b"eth0")[:16] + struct.pack("=HH", 200, 3)),
        message(16, link(2, b"eth0")[:16] + struct.pack("=HH", 0, 3)),
        message(16, link(2, b"eth0")[:16] + b"\0"),
    ],
)
def test_a_message_that_is_none_is_an_error_and_no_hang(data):
    with pytest.raises(ProtocolError):
        list(parse_changes(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_changes_or_an_error(data):
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(change, Change) for change in parse_changes(data))


def test_the_kernel_lists_loopback_first_and_what_the_host_has():
    found = links()
    assert (found[0].index, found[0].kind) == (1, "link")
    assert {change.name for change in found} == set(os.listdir("/sys/class/net"))  # noqa: PTH208


def test_what_another_process_sends_is_ignored():
    monitor = Monitor()
    try:
        port = monitor._socket.getsockname()[0]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as other:
            try:
                other.sendto(message(16, link(9, b"fake0")), (port, 0))
            except PermissionError:
                pytest.skip("the kernel lets nobody send to another's port here")
        assert monitor.read() == []
    finally:
        monitor.close()


LOSES = """
import sys
sys.path.insert(0, ROOT)
from appliance.isolation.rtnetlink import LOST, Monitor
from tests.veth import make_pair
monitor = Monitor(buffer_bytes=1)
for number in range(20):
    make_pair(f"a{number}", f"b{number}")
found = monitor.read()
assert LOST in found, found
assert monitor.read() == [], "it is said once"
make_pair("c0", "c1")
assert monitor.read(), "and it goes on"
"""


def test_a_buffer_that_overflows_is_told():
    code = LOSES.replace("ROOT", repr(str(Path(__file__).parents[2])))
    command = [*IN_A_NETWORK_OF_ITS_OWN, sys.executable, "-I", "-c", code]
    if subprocess.run([*IN_A_NETWORK_OF_ITS_OWN, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host lets us make no network namespace")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_the_groups_are_those_of_links_addresses_and_routes():
    assert rtnetlink.GROUPS == 0x551
