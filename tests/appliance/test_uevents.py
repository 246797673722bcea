"""Devices that the kernel announces: which are ways out, and what is none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ProtocolError
from appliance.isolation.uevents import Monitor, finding, parse_uevent


def announced(action: str, path: str, subsystem: str) -> bytes:
    pairs = {"ACTION": action, "DEVPATH": path, "SUBSYSTEM": subsystem, "SEQNUM": "7"}
    lines = [f"{action}@{path}", *(f"{name}={value}" for name, value in pairs.items())]
    return "\0".join(lines).encode() + b"\0"


@pytest.mark.parametrize(
    ("action", "path", "subsystem", "wrong"),
    [
        ("add", "/devices/pci0000:00/0000:00:03.0/net/eth0", "net", True),
        ("move", "/devices/virtual/net/wlan0", "net", True),
        ("add", "/devices/virtual/bluetooth/hci0", "bluetooth", True),
        ("add", "/devices/rfkill0", "rfkill", True),
        ("add", "/devices/wwan0", "wwan", True),
        ("add", "/devices/infiniband/mlx5_0", "infiniband", True),
        ("remove", "/devices/virtual/net/eth0", "net", False),
        ("add", "/devices/virtual/net/lo", "net", False),
        ("add", "/devices/usb1/1-1/host4/block/sdb", "block", False),
        ("change", "/devices/virtual/block/loop0", "block", False),
    ],
)
def test_a_way_out_is_a_finding_and_a_stick_is_none(action, path, subsystem, wrong):
    told = finding(parse_uevent(announced(action, path, subsystem)))
    assert bool(told) is wrong
    assert not wrong or (subsystem in told and path in told)


@pytest.mark.parametrize("data", [b"", b"libudev\0garbage", b"no-at-sign\0ACTION=add", b"add@/x\0NO PAIR"])
def test_what_is_no_announcement_is_an_error(data):
    with pytest.raises(ProtocolError):
        parse_uevent(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_announcement_or_an_error(data):
    with contextlib.suppress(ProtocolError):
        finding(parse_uevent(data))


def test_a_monitor_that_nothing_was_announced_to_finds_nothing():
    monitor = Monitor()
    try:
        assert all("device" in told for told in monitor.read())
    finally:
        monitor.close()
