"""What is said about a decision: who decided, who would have, what would turn it."""

from __future__ import annotations

from policy.cases import WORKING
from policy.engine import Engine, shipped
from policy.explain import explain
from policy.model import Entity, Request

SHIPPED = Engine(*shipped())
MODEL = Entity("Object", "a" * 64, {"kind": "weights", "name": "tales", "compartments": (), "state": "ready"})
EXPORT = {**WORKING, "approvals": 0, "approvers": [], "requester": "ada", "signed": True}


def ada(*roles: str, carries: tuple[str, ...] = ()) -> Entity:
    return Entity("Person", "ada", {"roles": roles, "compartments": carries})


def test_an_export_without_approvals_is_unlocked_by_two():
    found = explain(SHIPPED, Request(ada("operator"), "export", MODEL, EXPORT))
    assert found.decision.policies == ("export-needs-two-officers",)
    assert found.permits == ("operator-exports-weights",)
    assert found.forbids == ("export-needs-two-officers",)
    assert found.approvals == 2
    assert found.next_steps[0] == "with 2 approvals it is allowed"
    assert "need-to-know" in found.considered


def test_no_approval_unlocks_what_nobody_may():
    found = explain(SHIPPED, Request(ada("operator"), "read", MODEL, WORKING))
    assert (found.decision.allow, found.approvals, found.permits) == (False, 0, ())
    assert found.next_steps == ("ask somebody who holds the role that the rules name for it",)


def test_what_is_allowed_needs_nothing():
    found = explain(SHIPPED, Request(ada("operator"), "sample", MODEL, WORKING))
    assert found.decision.allow
    assert (found.permits, found.approvals, found.next_steps) == (("operator-samples-weights",), 0, ())


def test_a_question_that_is_not_put_to_the_rules_says_what_is_wrong_with_it():
    odd = Entity("Person", "\N{CYRILLIC SMALL LETTER A}da", {"roles": ("operator",), "compartments": ()})
    found = explain(SHIPPED, Request(odd, "sample", MODEL, WORKING))
    assert (found.permits, found.forbids, found.considered) == ((), (), ())
    assert found.next_steps == (
        "check the name for letters that only look like ASCII, for blanks, and its length",
    )


def test_each_step_is_told_once():
    asked = Request(ada(carries=()), "sample", MODEL, {**WORKING, "sealed": True, "isolated": False})
    steps = explain(SHIPPED, asked).next_steps
    assert len(set(steps)) == len(steps)
    assert "open the vault with `appliance unseal`" in steps
