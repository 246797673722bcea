"""What can be asked of officers: resolved from the catalog, written down once, used for nothing else."""

from __future__ import annotations

import pytest

from appliance.custodian.approvals import demand_approved, spend
from appliance.custodian.requests import (
    MAX_VALID_HOURS,
    break_glass_of,
    configure_of,
    named_object,
    shred_of,
)
from appliance.errors import PolicyRefused, ReplayRefused, UnknownObject, UsageError
from policy.approvals import parse_request

DIGEST = "9f" * 32


@pytest.fixture
def weights(sim):
    return sim.add("weights", "tiny", b"the weights", [sim.add("config", "tiny", b"[model]")])


def document_of(sim, *words, **more):
    return parse_request(sim.request(*words, **more).encode("ascii"))


def test_a_request_to_shred_names_the_object_by_id_and_in_words(sim, weights):
    for name in ("weights/tiny", "weights/tiny@1", weights.id):
        request = document_of(sim, "shred", name)
        assert (request.action, request.objects, request.recipients) == ("shred", (weights.id,), ())
        assert request.options == {"object": "weights/tiny version 1"}
        assert request.purpose == "shred an object"


def test_a_name_with_a_version_finds_that_version(sim, weights):
    newer = sim.add("weights", "tiny", b"newer")
    assert named_object(sim.core, "weights/tiny@1").id == weights.id
    assert named_object(sim.core, "weights/tiny@2").id == newer.id
    assert document_of(sim, "shred", "weights/tiny").objects == (newer.id,)


@pytest.mark.parametrize(
    "name", ["weights/tiny@", "weights/tiny@x", "weights/tiny@²", "weights/tiny@" + "1" * 10]
)
def test_a_version_is_a_short_number(sim, weights, name):
    with sim.refused(UsageError, "expected an object as KIND/NAME@VERSION"):
        sim.request("shred", name)


def test_what_is_not_there_cannot_be_asked_for(sim, weights):
    with sim.refused(UnknownObject, "in version 9: see"):
        sim.request("shred", "weights/tiny@9")
    with sim.refused(UnknownObject, "found no such id"):
        sim.request("shred", "a" * 64)
    with sim.refused(UnknownObject, "there is no weights named other", ["deny request"]):
        sim.request("shred", "weights/other")


def test_a_change_of_the_rules_binds_their_digest(sim):
    request = document_of(sim, "configure", options={"setting": "policy", "policy_set": DIGEST})
    assert (request.action, request.objects) == ("configure", ())
    assert request.options == {"setting": "policy", "policy_set": DIGEST}
    made = sim.entries()[-1]
    assert (made.kind, made.context["options"]) == ("request-made", request.options)


@pytest.mark.parametrize(
    "words",
    [
        ("configure", {}, "expected a setting with its options"),
        ("configure", {"setting": "colour"}, "found 'colour'"),
        ("configure", {"setting": "policy"}, "policy: policy_set"),
        ("configure", {"setting": "policy", "policy_set": DIGEST, "more": "x"}, "found 'policy'"),
        ("read", {}, "expected a request to export, shred, break-glass or configure, found 'read'"),
    ],
    ids=str,
)
def test_what_nobody_can_carry_out_is_not_asked_for(sim, words):
    action, options, said = words
    with sim.refused(UsageError, said):
        sim.request(action, options=options)


def test_a_request_has_what_its_action_needs_and_no_more(sim, weights):
    recipient = sim.recipient()
    for resources, recipients, said in (
        ((), [recipient], "expected one model in a request, found 0"),
        (("tiny", "tiny"), [recipient], "expected one model in a request, found 2"),
        (("tiny",), [], "expected one recipient in a request, found 0"),
    ):
        with sim.refused(UsageError, said):
            sim.request("export", *resources, recipients=recipients)
    with sim.refused(UsageError, "expected no recipient of a request to shred"):
        sim.request("shred", "weights/tiny", recipients=[recipient])
    with sim.refused(UsageError, "expected no object of a request to break-glass, found 1"):
        sim.request("break-glass", "weights/tiny")


@pytest.mark.parametrize("hours", [0, -1, MAX_VALID_HOURS + 1])
def test_a_request_is_valid_for_a_bounded_time(sim, hours):
    with sim.refused(UsageError, f"expected a request valid for 1 to {MAX_VALID_HOURS} hours"):
        sim.request("break-glass", hours=hours)


def test_an_approved_request_is_spent_once_and_for_what_it_names(sim):
    core, subject = sim.core, break_glass_of(sim.core)
    other = configure_of(core, "policy", policy_set=DIGEST)
    request = sim.approved("break-glass")
    with sim.refused(PolicyRefused, "is for break-glass, found change policy: ask for what you mean"):
        spend(core, sim.operator, request, other)
    approved, decided = spend(core, sim.operator, request, subject)
    assert approved.people == ("alice", "bob")
    assert [entry.kind for entry in sim.entries(decided.grant.index)] == ["decision", "request-used"]
    assert sim.entries(decided.grant.index)[0].context["request"] == approved.request.id
    with sim.refused(ReplayRefused, "was used already"):
        spend(core, sim.operator, approved.request.id, subject)


def test_what_officers_approved_is_still_the_rules_to_refuse(sim, weights):
    """No rule that ships permits an officer's own uid to break glass."""
    request = sim.approved("break-glass")
    with sim.refused(PolicyRefused, "no-rule-permits", ["deny break-glass"]):
        spend(sim.core, sim.core.person(4711), request, break_glass_of(sim.core))
    assert demand_approved(sim.core, request, break_glass_of(sim.core)).people == ("alice", "bob")


def test_a_request_to_shred_one_object_shreds_no_other(sim, weights):
    other = sim.add("weights", "other", b"other")
    request = sim.approved("shred", "weights/tiny")
    with sim.refused(PolicyRefused, "is for shred object weights/tiny version 1, found shred an object"):
        demand_approved(sim.core, request, shred_of(other))
    assert demand_approved(sim.core, request, shred_of(weights)).request.objects == (weights.id,)
