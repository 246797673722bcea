"""Officers say what the time is, where no clock is trusted: the floor of time is raised, or repaired."""

from __future__ import annotations

from appliance.bundle.floor import check_moment
from appliance.custodian.approvals import approved_request, spend
from appliance.custodian.core import Core
from appliance.custodian.requests import configure_of
from appliance.errors import PolicyRefused
from appliance.ledger import CLOCK_SET
from policy.model import Entity

SETTING = "clock"


def extend_clock(core: Core, person: Entity, given: str) -> str:
    """Set the floor to the moment that the request `given` names and officers approved; return it.

    What left stays counted: the log's own time goes on from that moment, and nothing is counted for the step.
    """
    request = approved_request(core, given).request
    if request.options.get("setting") != SETTING:
        raise PolicyRefused(f"request {request.id[:16]} is for no moment of time: ask for one")
    floor = check_moment(request.options["floor"])
    before = core.ledger.floor
    spend(core, person, request.id, configure_of(core, SETTING, floor=floor))
    core.gate.outcome(
        CLOCK_SET,
        f"Person:{person.id}",
        "configure",
        f"Appliance:{core.facts.origin}",
        {"request": request.id, "floor": floor, "before": before},
    )
    return floor
