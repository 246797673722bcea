"""Officers say below which version no release starts here again; the floor stands in the log."""

from __future__ import annotations

from appliance import __version__
from appliance.custodian.approvals import approved_request, spend
from appliance.custodian.core import Core
from appliance.custodian.requests import configure_of
from appliance.errors import PolicyRefused
from appliance.ledger import RELEASE_FLOOR
from appliance.release.version import check_floor
from policy.model import Entity

SETTING = "release"


def raise_release_floor(core: Core, person: Entity, given: str) -> str:
    """Raise the floor to the version that the request `given` names and officers approved; return it."""
    request = approved_request(core, given).request
    if request.options.get("setting") != SETTING:
        raise PolicyRefused(f"request {request.id[:16]} is for no floor of releases: ask for one")
    floor, before = request.options["floor"], core.ledger.release_floor
    check_floor(floor, before, __version__)
    spend(core, person, request.id, configure_of(core, SETTING, floor=floor))
    core.gate.outcome(
        RELEASE_FLOOR,
        f"Person:{person.id}",
        "configure",
        f"Appliance:{core.facts.origin}",
        {"request": request.id, "floor": floor, "before": before},
    )
    return floor
