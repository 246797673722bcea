"""How many must approve, and how much may leave, changes by officers' word alone, and by the old quorum."""

from __future__ import annotations

import asyncio
import os
import tomllib

import pytest

from appliance.custodian import leaving
from appliance.custodian.approving import Approving
from appliance.custodian.clients import Caller
from appliance.custodian.limiting import change_limits
from appliance.custodian.officers import change_officers
from appliance.egress import parse_budgets
from appliance.errors import IntegrityError, PolicyRefused, ReplayRefused, UsageError
from appliance.home import Home
from appliance.ledger import LIMITS_CHANGED
from appliance.limits import Limits
from appliance.restore import restore
from policy.errors import Malformed
from policy.quorum import parse_quorums
from tests.simulator import Simulator

THREE = {"setting": "limits", "action": "configure", "quorum": "people=3"}
TWO = {"setting": "limits", "action": "configure", "quorum": "people=2"}


def ask(sim, options, *officers):
    document = sim.request("configure", options=options)
    sim.approve(document, *officers)
    return document


def test_a_quorum_changes_by_the_quorum_that_was_in_force(sim):
    change_limits(sim.core, sim.operator, ask(sim, THREE, "alice", "bob"))
    for _ in range(2):
        assert sim.core.ledger.limits.quorums == {"configure": {"people": 3}}
        back = ask(sim, TWO, "alice", "bob")
        with sim.refused(PolicyRefused, "approvals:2-of-3", ["deny configure"]):
            change_limits(sim.core, sim.operator, back)
        sim.restart()  # it follows from the log, whatever home.json says
    sim.approve(back, "carol")
    change_limits(sim.core, sim.operator, back)
    assert sim.core.ledger.limits.quorums == {"configure": {"people": 2}}
    assert [entry.context["action"] for entry in sim.entries() if entry.kind == LIMITS_CHANGED] == [
        "configure",
        "configure",
    ]
    sim.verify_log()


@pytest.mark.parametrize("officers", [(), ("alice",)], ids=["nobody", "one"])
def test_nobody_changes_limits_alone(sim, officers):
    request = ask(sim, THREE, *officers)
    before = sim.core.ledger.limits
    with sim.refused(PolicyRefused, f"approvals:{len(officers)}-of-2", ["deny configure"]):
        change_limits(sim.core, sim.operator, request)
    assert sim.core.ledger.limits == before


def test_a_change_of_limits_is_made_once_and_only_as_it_was_signed(sim):
    request = ask(sim, THREE, "alice", "bob")
    change_limits(sim.core, sim.operator, request)
    with sim.refused(ReplayRefused, "was used already"):
        change_limits(sim.core, sim.operator, request)
    other = ask(sim, {"setting": "clock", "floor": "2031-05-04T09:00:00Z"})
    with sim.refused(PolicyRefused, "is for no change of limits: ask for one"):
        change_limits(sim.core, sim.operator, other)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"action": "export", "quorum": "people=1"}, Malformed, "expected 2 to 16 people, found 1"),
        ({"action": "export", "quorum": "people=4"}, Malformed, "officers could never meet it"),
        ({"action": "export", "quorum": "people=2,boss=1"}, Malformed, "missing boss"),
        ({"action": "train", "quorum": "people=2"}, Malformed, "expected tables named"),
        ({"action": "export", "quorum": "people=2,people=3"}, UsageError, "each once"),
        ({"action": "export", "quorum": "people=two"}, UsageError, "expected NAME=NUMBER"),
        ({"action": "export", "quorum": ""}, UsageError, "expected NAME=NUMBER"),
        ({"content": "weights", "budget": "gold=3"}, UsageError, "budget, weights: expected bytes"),
        ({"content": "secrets", "budget": "bytes=3"}, UsageError, "budget: expected tables named"),
        ({"content": "period", "budget": "days=0"}, UsageError, "expected days as a whole number"),
        ({"content": "weights", "budget": f"bytes={2**51}"}, UsageError, "as a whole number"),
        ({"content": "weights", "budget": "count=16"}, UsageError, "in force already"),
        ({"content": "weights", "quorum": "people=3"}, UsageError, "a setting with its options"),
    ],
    ids=str,
)
def test_limits_that_cannot_be_are_not_asked_for(sim, options, error, said):
    with sim.refused(error, said):
        sim.request("configure", options={"setting": "limits", **options})


def test_a_quorum_that_became_unreachable_since_it_was_asked_for_is_not_put_in_force(sim):
    request = ask(sim, THREE, "alice", "bob")
    gone = ask(sim, {"setting": "officers", "change": "revoke", "person": "carol"}, "alice", "bob")
    change_officers(sim.core, sim.operator, gone)
    with sim.refused(Malformed, "2 officers could never meet it"):
        change_limits(sim.core, sim.operator, request)


def test_no_officer_goes_whom_the_new_quorum_needs(sim):
    change_limits(sim.core, sim.operator, ask(sim, THREE, "alice", "bob"))
    with sim.refused(Malformed, "2 officers could never meet it"):
        sim.request("configure", options={"setting": "officers", "change": "revoke", "person": "carol"})


def test_a_budget_is_changed_in_what_is_named_and_counts_at_once(sim):
    assert leaving.lacks(sim.core, "weights", "age1x", 10) == ()
    change = {"setting": "limits", "content": "weights", "budget": "bytes=9,recipient_bytes=9"}
    change_limits(sim.core, sim.operator, ask(sim, change, "alice", "bob"))
    sim.restart()
    assert [each.reason for each in leaving.lacks(sim.core, "weights", "age1x", 10)] == [
        "egress-budget:weights-bytes",
        "egress-budget:weights-recipient_bytes",
    ]
    assert sim.core.ledger.limits.budgets["weights"]["count"] == 16
    assert leaving.lacks(sim.core, "text", "age1x", 10) == ()


def test_a_restored_appliance_keeps_the_limits_that_were_in_force(tmp_path):
    sim = Simulator(tmp_path / "sim")
    change_limits(sim.core, sim.operator, ask(sim, THREE, "alice", "bob"))
    limits = sim.core.ledger.limits
    sim.stop()
    restore(sim.home.root, tmp_path / "restored", clock=sim.clock.wall)
    sim.home = Home(tmp_path / "restored")
    sim.start()
    assert sim.core.ledger.limits == limits
    sim.stop()


def test_limits_of_a_log_with_a_hole_are_not_believed(sim):
    ledger = sim.core.ledger
    ledger.damage = "entry 9 is damaged"
    with pytest.raises(IntegrityError, match="is not known until the log is whole again"):
        assert ledger.limits


def test_the_verb_tells_the_limits_as_init_takes_them(sim):
    def call(**parameters):
        verb = Approving(sim.core).table()["ChangeLimits"]
        return asyncio.run(verb(Caller(os.getuid(), parameters, ())))

    told = call(request=ask(sim, THREE, "alice", "bob"))
    assert told == call()
    assert (parse_quorums(told["quorums"]), parse_budgets(told["budgets"])) == (
        {"configure": {"people": 3}},
        sim.core.ledger.limits.budgets,
    )
    assert tomllib.loads(told["budgets"])["period"] == {"days": 7}
    assert Limits({}, {}).tables() == ("", "")
