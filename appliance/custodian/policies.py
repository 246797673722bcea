"""The verbs of the rules themselves: load a set, go back to the one before, and ask who may do what.

A set counts only after, in this order: the set in force lets two officers' request for exactly this digest
load it → it parses and fits the schema → it passes the table of what every set must answer → its files are
durable → the request is used up → the entry that names it → it judges. So nobody's text is parsed who may not
load it. A crash before the entry leaves the old set in force, one after it the new.
Whatever an earlier set had granted ends: jobs go on from their checkpoints under decisions of the new one.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.custodian.approvals import decide, demand_approved, use
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.requests import configure_of, named_object
from appliance.custodian.trains import Trains
from appliance.custodian.workers import kill_all
from appliance.errors import PolicyRefused, UsageError
from appliance.gate import Thing
from appliance.ledger import POLICY_LOADED
from appliance.ruleset import keep_rules, open_rules
from audit.entry import JSON
from policy.cases import demand_promises
from policy.engine import Engine, schema
from policy.explain import explain
from policy.model import Entity, Request
from policy.rules import policy_digest

SETTING = "policy"


class Policies:
    """The verbs of one custodian that have to do with its rules."""

    def __init__(self, core: Core, trains: Trains) -> None:
        self._core = core
        self._trains = trains

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"LoadPolicy": self.load, "PolicyStatus": self.status, "WhoCan": self.who_can}

    async def load(self, caller: Caller) -> Answer:
        """Put a set in force that officers approved, or the one before."""
        core = self._core
        person = core.person(caller.uid)
        rules = caller.words("rules")
        previous = bool(caller.parameters.get("previous"))
        if previous is bool(rules):
            raise UsageError("expected either the rules to load or --previous, found both or neither")
        digest = self._previous() if previous else policy_digest(rules, schema())
        if digest == core.engine.digest:
            raise UsageError(f"the set {digest[:16]} is in force already: nothing was changed")
        subject = configure_of(core, SETTING, policy_set=digest)
        approved = demand_approved(core, caller.text("request"), subject)
        decided = decide(core, person, approved, subject)
        engine = open_rules(core.home, core.facts, digest) if previous else Engine(rules, schema())
        demand_promises(engine)
        if rules:
            keep_rules(core.home, digest, rules, schema())
        use(core, person.id, approved, decided)
        before = core.engine.digest
        committed = core.gate.outcome(
            POLICY_LOADED,
            f"Person:{person.id}",
            "configure",
            f"Appliance:{core.facts.origin}",
            {"policy_set": engine.digest, "previous": before, "rules": list(engine.names)},
        )
        core.adopt(engine)
        core.live.revoke_all()
        await self._trains.end_all("policy-changed")
        kill_all()  # samples, exports and replays hold keys that the former set granted
        return {"policy_set": engine.digest, "previous": before, "log_index": committed.index}

    async def status(self, caller: Caller) -> Answer:
        """Say which set is in force, and which was before."""
        core = self._core
        core.gate.request(core.person(caller.uid), "status", Thing(core.appliance()))
        return {
            "policy_set": core.engine.digest,
            "previous": core.ledger.previous_policy or None,
            "rules": list(core.engine.names),
        }

    async def who_can(self, caller: Caller) -> Answer:
        """Ask the rules about everybody who is enrolled, and say why and what would allow it."""
        core = self._core
        core.gate.request(core.person(caller.uid), "status", Thing(core.appliance()))
        action = caller.text("action")
        resource = self._resource(caller.text("object"))
        world = core.gate.facts(action)
        people: list[JSON] = []
        for name in sorted({*core.facts.people.values(), *core.ledger.enrolment.roles}):
            found = explain(core.engine, Request(core.officer(name), action, resource, world))
            people.append(
                {
                    "person": name,
                    "allowed": found.decision.allow,
                    "approvals": found.approvals,
                    "rules": list(found.decision.policies),
                    "reasons": list(found.decision.reasons),
                }
            )
        return {"people": people}

    def _resource(self, text: str) -> Entity:
        """Return what a question is about: an object, or the appliance where none is named."""
        if not text:
            return self._core.appliance()
        found = named_object(self._core, text if "/" in text or len(text) == 64 else f"weights/{text}")
        return self._core.gate.entity_of(found)

    def _previous(self) -> str:
        digest = self._core.ledger.previous_policy
        if not digest:
            raise PolicyRefused("no set was in force before this one: name the rules to load")
        return digest
