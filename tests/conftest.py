"""What holds for every test: no network, no inherited appliance, no deadline on a shared machine.

The guard stands in the interpreter's audit hooks, below anything a test or a library could patch: a socket of
a family other than Unix or netlink is refused at its creation, and in tests marked `loopback` an internet
socket is refused any address but 127.0.0.0/8 and ::1. Child processes are not under it, forked ones excepted.

KNOWN: in a marked test, connecting to a name asks the name service before the hook sees the address.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests.browser import browse  # noqa: F401  a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL_FAMILIES = {int(socket.AF_UNIX), int(socket.AF_NETLINK)}
INTERNET_FAMILIES = {int(socket.AF_INET), int(socket.AF_INET6)}
ADDRESSED = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}
LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}


class NetworkRefused(AssertionError):
    """A test reached for the network. Not an OSError, so that no retry or fallback swallows it."""


class NetworkGuard:
    """Judges the interpreter's socket events; `loopback` says whether the running test is marked so."""

    def __init__(self) -> None:
        self.armed = False
        self.loopback = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed or not event.startswith("socket."):
            return
        if event == "socket.__new__":
            self.judge_family(int(args[1]))
        elif event in ADDRESSED:
            self.judge_address(args[0].family, args[1])
        elif event in LOOKUPS:
            host = args[0][0] if isinstance(args[0], tuple) else args[0]
            self.judge_address(socket.AF_INET, (host, 0))

    def judge_family(self, family: int) -> None:
        wrapped = family == -1  # socket(fileno=…): the descriptor exists already
        if wrapped or family in LOCAL_FAMILIES or (self.loopback and family in INTERNET_FAMILIES):
            return
        raise NetworkRefused(f"no network in tests: socket family {family}; only in tests marked `loopback`")

    def judge_address(self, family: int, address: Any) -> None:
        if int(family) not in INTERNET_FAMILIES or address is None:
            return
        host = address[0]
        if not (self.loopback and (host == "localhost" or is_loopback(host))):
            raise NetworkRefused(f"no network in tests: address {host!r}; only loopback, in tests marked so")


def is_loopback(host: Any) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


GUARD = NetworkGuard()
sys.addaudithook(GUARD)

# Two cores shared with other work: a slow example is no failure of the code.
settings.register_profile("appliance", deadline=None)
settings.load_profile("appliance")


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    GUARD.loopback = request.node.get_closest_marker("loopback") is not None
    GUARD.armed = True
    yield
    GUARD.armed = False


@pytest.fixture(autouse=True)
def no_inherited_appliance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own appliance is not the tests' business."""
    monkeypatch.delenv("APPLIANCE_HOME", raising=False)


@pytest.fixture
def short_home() -> Iterator[Path]:
    """An empty folder with a path short enough for any socket below it (tmp_path may pass 108 bytes)."""
    home = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))
    yield home
    shutil.rmtree(home)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Any]:
    """A whole appliance in this process, unsealed, in the development profile."""
    yield from _simulate(tmp_path, "development")


@pytest.fixture
def isolated_sim(tmp_path: Path) -> Iterator[Any]:
    """The same in the isolated profile, on a host that is isolated."""
    yield from _simulate(tmp_path, "isolated")


def _simulate(folder: Path, profile: str) -> Iterator[Any]:
    from tests.simulator import Simulator  # noqa: PLC0415  loads all four packages: only where it is asked for

    simulator = Simulator(folder, profile=profile)
    yield simulator
    simulator.close()
