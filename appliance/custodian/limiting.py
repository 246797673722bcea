"""Officers change how many of them must approve, and how much may leave: by the quorum in force until then.

The entry of a change holds all limits that are in force after it, so that they follow from the log alone.
"""

from __future__ import annotations

from appliance.custodian.approvals import approved_request, spend
from appliance.custodian.core import Core
from appliance.custodian.requests import configure_of
from appliance.errors import PolicyRefused
from appliance.ledger import LIMITS_CHANGED
from appliance.limits import Limits
from policy.model import Entity

SETTING = "limits"


def change_limits(core: Core, person: Entity, given: str) -> Limits:
    """Carry out the change that the request `given` describes and officers approved; return what is in force.

    Raises PolicyRefused, and what `Limits.changed` raises: officers may have gone since it was asked for.
    """
    request = approved_request(core, given).request
    options = dict(request.options)
    if options.pop("setting", None) != SETTING:
        raise PolicyRefused(f"request {request.id[:16]} is for no change of limits: ask for one")
    before = core.ledger.limits
    after = before.changed(options, core.ledger.enrolment.officers())
    spend(core, person, request.id, configure_of(core, SETTING, **options))
    core.gate.outcome(
        LIMITS_CHANGED,
        f"Person:{person.id}",
        "configure",
        f"Appliance:{core.facts.origin}",
        {
            **options,
            "request": request.id,
            "quorums": {action: dict(quorum) for action, quorum in after.quorums.items()},
            "budgets": {content: dict(budget) for content, budget in after.budgets.items()},
        },
    )
    return after
