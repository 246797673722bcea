"""A set of rules comes into force by two officers' word, whole, once, and survives a crash or goes back."""

from __future__ import annotations

import asyncio
import os

import pytest

from appliance.custodian import policies
from appliance.custodian.clients import Caller
from appliance.custodian.policies import Policies
from appliance.custodian.requests import Asked, make_request
from appliance.errors import IntegrityError, PolicyRefused, ReplayRefused, UnknownObject, UsageError
from appliance.gate import Thing
from appliance.ledger import POLICY_LOADED
from policy.engine import Engine, schema, shipped
from policy.errors import PolicyInvalid
from policy.rules import policy_digest

MORE = {
    **shipped()[0],
    "lab.cedar": '@id("no-samples") forbid (principal, action == Action::"sample", resource);\n',
}
DIGEST = Engine(MORE, schema()).digest


class NoJobs:
    def __init__(self) -> None:
        self.ended: list[str] = []

    async def end_all(self, reason: str) -> None:
        self.ended.append(reason)


class Loader:
    """The verbs of a simulated appliance's rules."""

    def __init__(self, sim) -> None:
        self.sim, self.jobs = sim, NoJobs()

    def call(self, verb: str, **parameters: object) -> dict[str, object]:
        verbs = Policies(self.sim.core, self.jobs)
        caller = Caller(os.getuid(), parameters, ())
        return asyncio.run(verbs.table()[verb](caller))

    def approved(self, digest: str, *officers: str) -> str:
        asked = Asked("configure", (), (), {"setting": "policy", "policy_set": digest})
        made = make_request(self.sim.core, self.sim.operator, asked, reason="review", valid_hours=1)
        self.sim.approve(made.document, *officers)
        return made.id

    def load(self, rules: dict[str, str] = MORE, digest: str = DIGEST) -> dict[str, object]:
        return self.call("LoadPolicy", rules=rules, request=self.approved(digest, "alice", "bob"))


@pytest.fixture
def loader(sim):
    return Loader(sim)


def test_a_set_that_two_officers_approved_judges_from_then_on(sim, loader):
    weights = sim.add("weights", "tiny", b"the weights")
    before = sim.core.engine.digest
    sim.ask("sample", weights)
    told = loader.load()
    assert (told["policy_set"], told["previous"]) == (DIGEST, before)
    with sim.refused(PolicyRefused, "forbidden-by:no-samples", ["deny sample"]):
        sim.ask("sample", weights)
    assert loader.jobs.ended == ["policy-changed"]
    entry = sim.entries()[told["log_index"]]
    assert (entry.kind, entry.context["policy_set"]) == (POLICY_LOADED, DIGEST)
    assert sim.entries()[-1].decision.policy_set == DIGEST


def test_it_is_in_force_after_a_restart_and_a_crash(sim, loader):
    loader.load()
    sim.restart()
    assert sim.core.engine.digest == DIGEST
    sim.crash()
    sim.start()
    assert sim.core.engine.digest == DIGEST


def test_the_set_of_before_comes_back_by_the_same_way(sim, loader):
    before = sim.core.engine.digest
    loader.load()
    with pytest.raises(PolicyRefused):
        loader.call("LoadPolicy", previous=True, request=loader.approved(before, "alice"))
    loader.call("LoadPolicy", previous=True, request=loader.approved(before, "alice", "bob"))
    assert sim.core.engine.digest == before
    sim.restart()
    assert sim.core.engine.digest == before
    assert loader.call("PolicyStatus")["previous"] == DIGEST


@pytest.mark.parametrize("officers", [(), ("alice",)], ids=["nobody", "one"])
def test_nobody_loads_a_set_alone(sim, loader, officers):
    before = sim.core.engine.digest
    request = loader.approved(DIGEST, *officers)
    with pytest.raises(PolicyRefused, match="changing-what-decides-needs-two-officers"):
        loader.call("LoadPolicy", rules=MORE, request=request)
    assert sim.core.engine.digest == before
    assert sim.core.ledger.policy_set == before


def test_an_approval_is_for_one_set_and_one_time(sim, loader):
    other = {**MORE, "lab.cedar": MORE["lab.cedar"].replace("sample", "train")}
    request = loader.approved(DIGEST, "alice", "bob")
    with pytest.raises(PolicyRefused, match="ask for what you mean"):
        loader.call("LoadPolicy", rules=other, request=request)
    loader.call("LoadPolicy", rules=MORE, request=request)
    with pytest.raises(UsageError, match="is in force already"):
        loader.call("LoadPolicy", rules=MORE, request=request)
    loader.load(other, Engine(other, schema()).digest)
    with pytest.raises(ReplayRefused):
        loader.call("LoadPolicy", rules=MORE, request=request)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("permit (", r"lab\.cedar:1: unexpected end"),
        ('@id("x") permit (principal, action == Action::"fly", resource);', r"lab\.cedar:1: rule 'x'"),
        (
            '@id("need-to-know") forbid (principal, action, resource);',
            "two rules have the name 'need-to-know'",
        ),
        ('@id("open") permit (principal, action, resource);', "a stranger is nobody: expected deny"),
    ],
    ids=["syntax", "unknown action", "an id twice", "everything for everybody"],
)
def test_a_set_that_is_wrong_leaves_the_old_one_in_force(sim, loader, text, message):
    before = sim.core.engine.digest
    wrong = {**MORE, "lab.cedar": text}
    request = loader.approved(policy_digest(wrong, schema()), "alice", "bob")
    with pytest.raises(PolicyInvalid, match=message):
        loader.call("LoadPolicy", rules=wrong, request=request)
    assert sim.core.engine.digest == before
    assert sim.core.catalog.request(request).state == "open"
    assert not (sim.home.policy / policy_digest(wrong, schema())).exists()


@pytest.mark.parametrize("officers", [(), ("alice",)], ids=["nobody", "one"])
def test_text_that_nobody_may_load_is_not_even_parsed(sim, loader, officers, monkeypatch):
    """A parser is code that an attacker talks to: only who may load rules may do that."""
    wrong = {"lab.cedar": "permit ("}
    request = loader.approved(policy_digest(wrong, schema()), *officers)
    monkeypatch.setattr(policies, "Engine", lambda *_: pytest.fail("parsed"))
    with pytest.raises(PolicyRefused, match="changing-what-decides-needs-two-officers"):
        loader.call("LoadPolicy", rules=wrong, request=request)
    with pytest.raises(UnknownObject):
        loader.call("LoadPolicy", rules=wrong, request="f" * 64)


@pytest.mark.parametrize("given", [{}, {"rules": MORE, "previous": True}], ids=["neither", "both"])
def test_what_to_load_is_said_once(loader, given):
    with pytest.raises(UsageError, match="either the rules to load or --previous"):
        loader.call("LoadPolicy", request="f" * 64, **given)


def test_there_is_nothing_to_go_back_to_at_first(loader):
    with pytest.raises(PolicyRefused, match="no set was in force before this one"):
        loader.call("LoadPolicy", previous=True, request="f" * 64)


def test_a_request_that_nobody_made_loads_nothing(sim, loader):
    before = sim.core.engine.digest
    with pytest.raises(UnknownObject):
        loader.call("LoadPolicy", rules=MORE, request="f" * 64)
    assert sim.core.engine.digest == before


@pytest.mark.parametrize("uid", [0, 1], ids=["operator", "stranger"])
def test_rules_that_nobody_approved_do_not_reach_the_disk(sim, loader, uid):
    before = sorted(sim.home.policy.iterdir())
    table = Policies(sim.core, loader.jobs).table()
    caller = Caller(os.getuid() + 54321 * uid, {"rules": MORE, "request": "f" * 64}, ())
    with pytest.raises((UnknownObject, PolicyRefused)):
        asyncio.run(table["LoadPolicy"](caller))
    assert sorted(sim.home.policy.iterdir()) == before


def test_files_of_a_set_that_were_exchanged_are_found_at_the_start(sim, loader):
    loader.load()
    sim.stop()
    (sim.home.policy / DIGEST / "lab.cedar").write_text(MORE["lab.cedar"].replace("sample", "train"))
    with pytest.raises(IntegrityError, match="differs from what the log's genesis entry names"):
        sim.start()


def test_a_set_of_which_files_are_gone_is_not_the_one_of_before(sim, loader):
    loader.load()
    sim.stop()
    (sim.home.policy / DIGEST / "schema.cedarschema").unlink()
    with pytest.raises(IntegrityError, match=r"lacks .*schema\.cedarschema: restore its files"):
        sim.start()


def test_who_can_says_who_may_and_by_how_many_approvals(sim, loader):
    sim.add("weights", "tiny", b"the weights")
    people = {
        each["person"]: each for each in loader.call("WhoCan", action="export", object="tiny")["people"]
    }
    assert people["operator"] == {
        "person": "operator",
        "allowed": False,
        "approvals": 2,
        "rules": [],
        "reasons": people["operator"]["reasons"],
    }
    assert people["alice"]["approvals"] == 0
    assert not any(
        each["allowed"] or each["approvals"]
        for each in loader.call("WhoCan", action="read", object="tiny")["people"]
    )
    may = loader.call("WhoCan", action="status", object="")["people"]
    assert {each["person"] for each in may if each["allowed"]} == {"operator", "alice", "bob", "carol"}


def test_a_change_of_rules_that_was_cut_out_of_the_log_does_not_bring_the_old_ones_back(sim, loader):
    """Every decision names the rules that it was made by, so the next one tells that something is missing."""
    before = sim.core.engine.digest
    loader.load()
    sim.ask("status", Thing(sim.core.appliance()))
    ledger = sim.core.ledger
    ledger.damage, ledger._policies = "entry 9 is damaged", [before]
    with pytest.raises(IntegrityError, match="which rules are in force is not known"):
        assert ledger.policy_set
    ledger._policies = [before, DIGEST]
    assert ledger.policy_set == DIGEST
