"""Need to know, and what nobody changes alone: what the shipped rules say of compartments and two people."""

from __future__ import annotations

import pytest

from policy import oracle
from policy.model import Entity, Request

APPLIANCE = Entity("Appliance", "appliance", {})
TWO = {"approvals": 2, "approvers": ["bob", "cleo"], "requester": "ada"}
MORE = {"export": {**TWO, "signed": True}, "shred": TWO}

READERS = ["train", "sample", "evaluate", "export", "shred", "request"]


@pytest.mark.parametrize("action", READERS)
def test_who_was_not_told_of_a_compartment_works_with_none_of_its_data(ask, thing, action):
    kind = "config" if action == "train" else "weights"
    for carried, labels, allowed in (
        (("a", "b"), ("a",), True),
        (("a", "b"), ("a", "b"), True),
        (("a",), ("a", "b"), False),
        (("b",), ("a",), False),
        ((), ("a",), False),
    ):
        ada = Entity("Person", "ada", {"roles": ("operator",), "compartments": carried, "uid": 1000})
        decision = ask(ada, action, thing(kind, labels=labels), **MORE.get(action, {}))
        assert decision.allow is allowed
        assert allowed or decision.reasons == ("forbidden-by:need-to-know", "invariant:need-to-know")


@pytest.mark.parametrize("labels", [None, "a", {"a": 1}], ids=repr)
def test_labels_that_are_no_list_are_not_taken_for_none(facts, person, thing, labels):
    odd = thing("weights", labels=labels)
    asked = Request(person("operator"), "sample", odd, facts)
    assert oracle.broken_invariants(asked) == ("invariant:need-to-know",)


def test_a_job_knows_what_its_owner_knows(ask, thing):
    corpus = thing("corpus", labels=("a",))
    for carried, allowed in ((("a",), True), (("b",), False), ((), False)):
        attrs = {"owner": "ada", "purpose": "train", "objects": [corpus.id], "compartments": carried}
        decision = ask(Entity("Job", "j1", attrs), "use", corpus)
        assert decision.allow is allowed
        assert allowed or decision.reasons == ("forbidden-by:need-to-know", "invariant:need-to-know")


@pytest.mark.parametrize("action", ["import", "open"])
def test_a_bundle_of_a_compartment_is_for_who_carries_it(ask, action):
    attrs = {"kind": "corpus", "direction": "in", "signer": "lab", "compartments": ("a",)}
    bundle = Entity("Bundle", "0badcafe", attrs)
    for carried, allowed in ((("a",), True), ((), False)):
        person = Entity("Person", "ada", {"roles": ("operator",), "compartments": carried, "uid": 1000})
        attrs = {"owner": "ada", "purpose": "import", "objects": [bundle.id], "compartments": carried}
        decision = ask(person if action == "import" else Entity("Job", "j1", attrs), action, bundle)
        assert decision.allow is allowed
        assert allowed or decision.reasons == (
            "forbidden-by:need-to-know-of-bundles",
            "invariant:need-to-know",
        )


@pytest.mark.parametrize(
    ("setting", "approved", "allowed"),
    [
        ("log-key", {}, True),
        ("recover-identity", {}, True),
        ("custody", {}, True),
        ("policy", {}, False),
        ("policy", {"approvals": 1, "approvers": ["bob"], "requester": "ada"}, False),
        ("policy", {"approvals": 2, "approvers": ["bob", "ada"], "requester": "ada"}, False),
        ("policy", TWO, True),
        ("officers", {}, False),
        ("something-new", {}, False),
    ],
    ids=repr,
)
def test_what_decides_is_changed_by_two_officers(ask, person, setting, approved, allowed):
    assert ask(person("operator"), "configure", APPLIANCE, setting=setting, **approved).allow is allowed


@pytest.mark.parametrize(
    "approved", [{}, {"approvals": 1, "approvers": ["bob"], "requester": "ada"}], ids=repr
)
def test_nobody_breaks_glass_alone(ask, person, approved):
    decision = ask(person("operator", "officer"), "break-glass", APPLIANCE, **approved)
    assert not decision.allow
    assert "forbidden-by:breaking-glass-needs-two-officers" in decision.reasons


@pytest.mark.parametrize(
    "approved", [{}, {"approvals": 1, "approvers": ["bob"], "requester": "ada"}], ids=repr
)
def test_nobody_shreds_alone(ask, person, thing, approved):
    decision = ask(person("operator", "officer"), "shred", thing("weights"), **approved)
    assert not decision.allow
    assert "forbidden-by:shredding-needs-two-officers" in decision.reasons
