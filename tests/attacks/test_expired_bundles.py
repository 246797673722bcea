"""A bundle that is past its time: judged by the floor of time, which no clock moves."""

from __future__ import annotations

import pytest

from appliance.bundle.floor import BUILT
from appliance.bundle.trust import anyone_of
from appliance.custodian import imports
from appliance.custodian.clockwork import extend_clock
from appliance.errors import Expired, PolicyRefused, ReplayRefused
from tests.simulator import DAY_S


class Medium:
    """A folder whose manifest is never read: what it would be judged by is looked at instead."""

    def read_file(self, _name, _limit):
        return b"an envelope"


@pytest.fixture
def floor_of(monkeypatch):
    """The floor by which an import would judge a bundle."""
    found = []

    def judged(*_, floor, **__):
        found.append(floor)
        raise Expired("past its time")

    monkeypatch.setattr(imports, "verify_manifest", judged)

    def floor_of(sim):
        with pytest.raises(Expired):
            imports._judge(sim.core, Medium(), anyone_of([]))
        return found[-1]

    return floor_of


def accept(sim, issued_at):
    """What an import leaves in the log."""
    context = {"channel": "lab", "bundle_seq": 1, "manifest_sha256": "a" * 64, "issued_at": issued_at}
    sim.core.gate.outcome(imports.IMPORTED, "Person:operator", "import", "Bundle:x", context)


def test_no_clock_moves_the_floor_forward_or_back(sim, floor_of):
    for days in (4000, -9000):
        sim.clock.pass_(days * DAY_S)
        sim.core.gate.outcome("note", "p", "a", "r", {})
        assert floor_of(sim) == BUILT


def test_a_signed_moment_raises_it_by_31_days_at_most(sim, floor_of):
    accept(sim, "2026-12-01T00:00:00Z")
    assert floor_of(sim) == "2026-12-01T00:00:00Z"
    accept(sim, "2026-11-30T00:00:00Z")
    assert floor_of(sim) == "2026-12-01T00:00:00Z", "an older bundle lowers nothing"
    accept(sim, "2999-01-01T00:00:00Z")
    assert floor_of(sim) == "2027-01-01T00:00:00Z"
    sim.restart()
    assert floor_of(sim) == "2027-01-01T00:00:00Z"


@pytest.mark.parametrize("moment", ["2031-05-04T09:00:00Z", "2026-12-01T00:00:00Z"])
def test_officers_raise_and_repair_it(sim, floor_of, moment):
    accept(sim, "2026-12-20T00:00:00Z")
    request = sim.approved("configure", setting="clock", floor=moment)
    assert extend_clock(sim.core, sim.operator, request) == moment == floor_of(sim)
    entry = sim.entries()[-1]
    assert (entry.kind, entry.context["before"]) == ("clock-set", "2026-12-20T00:00:00Z")
    sim.restart()
    assert floor_of(sim) == moment
    with sim.refused(ReplayRefused, "was used already"):
        extend_clock(sim.core, sim.operator, request)


def test_one_person_sets_no_clock(sim, floor_of):
    request = sim.request("configure", options={"setting": "clock", "floor": "2031-05-04T09:00:00Z"})
    sim.approve(request, "alice")
    with sim.refused(PolicyRefused, "approvals:1-of-2", ["deny configure"]):
        extend_clock(sim.core, sim.operator, request)
    other = sim.approved("break-glass")
    with sim.refused(PolicyRefused, "is for no moment of time: ask for one"):
        extend_clock(sim.core, sim.operator, other)
    assert floor_of(sim) == BUILT
