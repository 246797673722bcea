"""The verbs of the two-person rule: a request goes out, officers' signatures come back."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.custodian import approvals, requests
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core


class Approving:
    """The verbs of one custodian that have to do with officers."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"Request": self.request, "Approve": self.approve}

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
        return {"person": taken.person, "approvals": taken.approvals, "needed": approvals.NEEDED}
