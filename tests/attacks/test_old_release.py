"""An old release, rightly signed, put back: it does not start once officers named a floor above it."""

from __future__ import annotations

import pytest

from appliance import __version__
from appliance.custodian import releasing, start
from appliance.custodian import requests as asking
from appliance.custodian.releasing import raise_release_floor
from appliance.errors import PolicyRefused, ReplayRefused, SetBack, UsageError
from appliance.release.version import check_floor, demand_release, parse_version


def test_officers_raise_the_floor_and_an_older_release_starts_no_more(sim, monkeypatch):
    request = sim.approved("configure", setting="release", floor=__version__)
    assert raise_release_floor(sim.core, sim.operator, request) == __version__
    entry = sim.entries()[-1]
    assert (entry.kind, entry.context["before"]) == ("release-floor", "0.0.0")
    with sim.refused(ReplayRefused, "was used already"):
        raise_release_floor(sim.core, sim.operator, request)
    sim.restart()
    assert sim.core.ledger.release_floor == __version__
    sim.stop()
    monkeypatch.setattr(start, "__version__", "0.0.9")
    sim.refuses_to_start(SetBack, f"this release is 0.0.9, and officers said that none below {__version__}")
    monkeypatch.setattr(start, "__version__", "0.2.0")
    sim.start()
    assert sim.core.ledger.release_floor == __version__


def test_a_request_that_waited_while_the_floor_rose_lowers_nothing(sim, monkeypatch):
    for module in (asking, releasing):
        monkeypatch.setattr(module, "__version__", "0.3.0")
    lower = sim.approved("configure", setting="release", floor="0.2.0")
    raise_release_floor(sim.core, sim.operator, sim.approved("configure", setting="release", floor="0.3.0"))
    with sim.refused(UsageError, "expected a version above the floor in force, 0.3.0, found 0.2.0"):
        raise_release_floor(sim.core, sim.operator, lower)
    assert sim.core.ledger.release_floor == "0.3.0"


def test_one_person_raises_no_floor(sim):
    request = sim.request("configure", options={"setting": "release", "floor": __version__})
    sim.approve(request, "alice")
    with sim.refused(PolicyRefused, "approvals:1-of-2", ["deny configure"]):
        raise_release_floor(sim.core, sim.operator, request)
    other = sim.approved("break-glass")
    with sim.refused(PolicyRefused, "is for no floor of releases: ask for one"):
        raise_release_floor(sim.core, sim.operator, other)
    assert sim.core.ledger.release_floor == "0.0.0"


@pytest.mark.parametrize("floor", ["9.0.0", "0.0.0", "1", "0.1.0rc1", "00.1.0", "", "0.1.0 "])
def test_a_floor_that_would_lock_out_or_lower_or_is_none_is_not_even_asked_for(sim, floor):
    with pytest.raises(UsageError, match="expected a version"):
        sim.request("configure", options={"setting": "release", "floor": floor})


def test_versions_are_compared_by_number():
    assert parse_version("0.10.0") > parse_version("0.9.9")
    demand_release("0.10.0", "0.9.9")
    with pytest.raises(SetBack, match=r"install 0.10.0 or a newer one"):
        demand_release("0.9.9", "0.10.0")
    check_floor("0.10.0", "0.9.9", "0.10.0")
