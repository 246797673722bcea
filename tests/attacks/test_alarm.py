"""The alarm with something broken or timed against it: the wipe fails, or a network is there only meanwhile.

The alarm, its loop and the threads that call it are real; of the custodian there is what the alarm asks for.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from appliance.custodian import breach
from appliance.custodian.breach import Alarm

ANSWER_S = 10.0


class Custodian:
    """What an alarm asks of a core, its jobs and its process, and what became of each."""

    def __init__(self) -> None:
        self.facts = SimpleNamespace(profile="isolated", origin="test")
        self.sealed = True
        self.breach = None
        self.ending = ""
        self.gate = SimpleNamespace(outcome=self._log)
        self.entries: list[tuple[str, dict[str, object]]] = []
        self.wipes: list[str] = []
        self.resealed = asyncio.Event()

    def wipe_keys(self) -> None:
        self.wipes.append("keys")

    def wipe(self) -> None:
        self.wipes.append("all")

    async def end_all(self, _reason: str) -> None:
        """No job runs."""

    async def reseal(self) -> None:
        self.resealed.set()

    def _log(self, kind: str, _who: str, _action: str, _resource: str, context: dict[str, object]):
        self.entries.append((kind, context))
        return SimpleNamespace(index=len(self.entries))


class Unwipeable(Custodian):
    """One whose memory cannot be overwritten."""

    def wipe_keys(self) -> None:
        raise ValueError("released memory")

    def wipe(self) -> None:
        raise ValueError("released memory")


class Jobless(Custodian):
    """One whose jobs cannot be ended in order."""

    async def end_all(self, _reason: str) -> None:
        raise OSError("no space left on device")


def alarm_of(custodian: Custodian) -> Alarm:
    alarm = Alarm(custodian, custodian, reseal=custodian.reseal)
    alarm.lookout = SimpleNamespace(look=list, lacks=(), isolated=True)
    return alarm


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the kills; no worker of another test is anybody's here."""
    kills: list[str] = []
    monkeypatch.setattr(breach, "kill_all", lambda: kills.append("all"))
    return kills


def test_a_wipe_that_fails_holds_up_neither_kill_nor_entry_nor_seal(killed: list[str]):
    async def scene() -> Custodian:
        custodian = Unwipeable()
        custodian.sealed = False
        alarm = alarm_of(custodian)
        await asyncio.to_thread(alarm.sound, ["link there: veth0"])  # as from the watch's thread
        assert killed == ["all"]
        await asyncio.wait_for(custodian.resealed.wait(), ANSWER_S)
        return custodian

    custodian = asyncio.run(scene())
    (first, said), (last, _) = custodian.entries
    assert (first, last) == ("breach", "sealed")
    assert said["found"] == [
        "the keys were not overwritten: ValueError('released memory')",
        "link there: veth0",
    ]
    assert "keys_wiped_us" not in said
    assert custodian.ending == "breach"


@pytest.mark.usefixtures("killed")
def test_jobs_that_do_not_end_do_not_keep_the_vault_open():
    async def scene() -> Custodian:
        custodian = Jobless()
        custodian.sealed = False
        alarm = alarm_of(custodian)
        alarm.sound(["link there: veth0"])
        await asyncio.wait_for(custodian.resealed.wait(), ANSWER_S)
        with pytest.raises(OSError, match="no space left"):
            await alarm._concluding
        return custodian

    assert [kind for kind, _ in asyncio.run(scene()).entries] == ["breach", "sealed"]


async def open_while(*, before: list[str], meanwhile: list[str], profile: str = "isolated") -> Custodian:
    """Open a vault; the watch tells `before` ahead of it, and `meanwhile` while the secret is tried."""
    custodian = Custodian()
    custodian.facts.profile = profile
    alarm = alarm_of(custodian)
    for found in filter(None, (before,)):
        await asyncio.to_thread(alarm.sound, found)
    alarm.demand_calm("a test")
    for found in filter(None, (meanwhile,)):
        await asyncio.to_thread(alarm.sound, found)
    assert not custodian.wipes, "sealed, it is only said"
    custodian.sealed = False
    alarm.arm()
    if alarm._sounded:
        await asyncio.wait_for(custodian.resealed.wait(), ANSWER_S)
    return custodian


def test_a_network_that_was_there_only_while_the_vault_opened_is_a_breach(killed: list[str]):
    custodian = asyncio.run(open_while(before=[], meanwhile=["link there: veth0", "link there: veth1"]))
    assert killed == ["all"]
    assert custodian.wipes == ["keys", "all"]
    (kind, said), (last, _) = custodian.entries
    assert (kind, last) == ("breach", "sealed")
    assert said["found"] == ["link there: veth0", "link there: veth1"]


@pytest.mark.parametrize(
    ("before", "meanwhile", "profile"),
    [
        ([], [], "isolated"),
        (["link there: veth0"], [], "isolated"),  # gone before the calm was found, which looked itself
        ([], ["link there: veth0"], "development"),
    ],
)
def test_a_vault_that_opens_in_calm_stays_open(killed, before, meanwhile, profile):
    custodian = asyncio.run(open_while(before=before, meanwhile=meanwhile, profile=profile))
    assert (killed, custodian.wipes, custodian.entries) == ([], [], [])
