"""The verbs of the two-person rule: a request goes out, officers' signatures come back."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.custodian import approvals, requests
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.clockwork import extend_clock
from appliance.custodian.core import Core
from appliance.custodian.limiting import change_limits
from appliance.custodian.officers import change_officers, list_officers
from appliance.custodian.releasing import raise_release_floor
from appliance.gate import Thing


class Approving:
    """The verbs of one custodian that have to do with officers."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {
            "Request": self.request,
            "Approve": self.approve,
            "ListOfficers": self.list_officers,
            "ChangeOfficers": self.change_officers,
            "ExtendClock": self.extend_clock,
            "ChangeLimits": self.change_limits,
            "ReleaseFloor": self.release_floor,
        }

    async def request(self, caller: Caller) -> Answer:
        """Make the document that officers sign."""
        asked = requests.Asked(
            caller.text("action"),
            caller.texts("resources"),
            caller.texts("recipients"),
            caller.words("options"),
        )
        made = requests.make_request(
            self._core,
            self._core.person(caller.uid),
            asked,
            reason=caller.text("reason"),
            valid_hours=caller.number("valid_hours"),
        )
        return {"id": made.id, "document": made.document}

    async def approve(self, caller: Caller) -> Answer:
        """Take one officer's signature; whoever carries it here need not be that officer."""
        taken = approvals.take_approval(self._core, caller.text("document"), caller.text("signature"))
        request = taken.approved
        return {
            "person": taken.person,
            "approvals": len(request.people),
            "needed": request.quorum.people,
            "missing": [lack.reason.partition(":")[2] for lack in request.lacks()],
        }

    async def list_officers(self, caller: Caller) -> Answer:
        """Say who may approve, with which keys and in which roles."""
        core = self._core
        core.gate.request(core.person(caller.uid), "status", Thing(core.appliance()))
        officers = [
            {
                "person": each.person,
                "key_type": each.key_type,
                "fingerprint": each.fingerprint,
                "roles": list(each.roles),
            }
            for each in list_officers(core)
        ]
        return {"officers": officers}

    async def change_officers(self, caller: Caller) -> Answer:
        """Add or revoke the officer whom an approved request names."""
        done = change_officers(self._core, self._core.person(caller.uid), caller.text("request"))
        return {"person": done.person, "change": done.change, "ended": list(done.ended)}

    async def extend_clock(self, caller: Caller) -> Answer:
        """Set the floor of time to the moment that an approved request names."""
        return {"floor": extend_clock(self._core, self._core.person(caller.uid), caller.text("request"))}

    async def change_limits(self, caller: Caller) -> Answer:
        """Carry out the change of limits that an approved request names; without one, tell them."""
        core = self._core
        person = core.person(caller.uid)
        if caller.parameters.get("request") is None:
            core.gate.request(person, "status", Thing(core.appliance()))
            limits = core.ledger.limits
        else:
            limits = change_limits(core, person, caller.text("request"))
        quorums, budgets = limits.tables()
        return {"quorums": quorums, "budgets": budgets}

    async def release_floor(self, caller: Caller) -> Answer:
        """Tell below which version no release starts; with an approved request, raise it."""
        core = self._core
        person = core.person(caller.uid)
        if caller.parameters.get("request") is None:
            core.gate.request(person, "status", Thing(core.appliance()))
            return {"floor": core.ledger.release_floor}
        return {"floor": raise_release_floor(core, person, caller.text("request"))}
