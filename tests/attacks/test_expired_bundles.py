"""A bundle that is past its time: refused by the clock, and by the log where the clock was set back."""

from __future__ import annotations

import pytest

from appliance.custodian import imports
from appliance.errors import Expired


class Medium:
    """A folder whose manifest is never read: what it would be judged by is looked at instead."""

    def read_file(self, _name, _limit):
        return b"an envelope"


@pytest.fixture
def floors(monkeypatch):
    found = []

    def judged(*_, floor, **__):
        found.append(floor)
        raise Expired("past its time")

    monkeypatch.setattr(imports, "verify_manifest", judged)
    return found


def test_a_manifest_is_judged_by_the_clock(sim, floors, monkeypatch):
    monkeypatch.setattr(imports, "utc_now", lambda: "2099-01-01T00:00:00Z")
    with pytest.raises(Expired):
        imports._judge(sim.core, Medium())
    assert floors == ["2099-01-01T00:00:00Z"]


def test_a_clock_that_was_set_back_does_not_go_before_the_log(sim, floors, monkeypatch):
    monkeypatch.setattr(imports, "utc_now", lambda: "2001-01-01T00:00:00Z")
    with pytest.raises(Expired):
        imports._judge(sim.core, Medium())
    assert floors == [f"{sim.entries()[-1].time[:19]}Z"]
