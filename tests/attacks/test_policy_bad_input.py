"""Odd questions at the gate: each is denied, says why and what to do, and stands in the log."""

from __future__ import annotations

import pytest

from appliance.custodian.core import job_entity
from appliance.errors import PolicyRefused, UnknownObject
from appliance.gate import NamedObject, Thing
from policy.model import Entity

CYRILLIC = "o\N{CYRILLIC SMALL LETTER ER}erator"


@pytest.fixture
def weights(sim):
    return sim.add("weights", "tiny", b"the weights")


@pytest.mark.parametrize("name", ["", "gone", "t\N{CYRILLIC SMALL LETTER I}ny"], ids=ascii)
def test_a_question_about_nothing_is_denied_and_says_where_to_look(sim, name):
    with sim.refused(UnknownObject, "see `appliance objects`", ["deny sample"]):
        sim.ask("sample", NamedObject("weights", name))
    assert sim.entries()[-1].decision.reasons == ("unknown-object",)


def test_a_name_that_looks_like_the_operators_is_nobodys(sim, weights):
    double = Entity("Person", CYRILLIC, {"roles": ("operator",), "compartments": (), "uid": 0})
    with sim.refused(PolicyRefused, "name-refused .*only look like ASCII", ["deny sample"]):
        sim.ask("sample", weights, double)


def test_a_job_gets_nothing_of_another_job(sim, weights):
    other = job_entity("train-2", "operator", "train", ["f" * 64])
    with sim.refused(
        PolicyRefused, "invariant:job-names-it .*start a job whose decision names", ["deny use"]
    ):
        sim.core.gate.request(other, "use", weights, job="train-2")


def test_an_action_that_nobody_defined_is_denied(sim, weights):
    with sim.refused(PolicyRefused, "unknown-action .*check the spelling", ["deny fly"]):
        sim.ask("fly", weights)


def test_an_action_on_the_wrong_kind_of_thing_is_denied(sim):
    with sim.refused(PolicyRefused, "not-applicable .*check both", ["deny sample"]):
        sim.ask("sample", Thing(sim.core.appliance()))
