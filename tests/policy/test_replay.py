"""Logged decisions judged again by another set."""

from __future__ import annotations

from policy.cases import WORKING
from policy.engine import Engine, schema, shipped
from policy.replay import JUDGED, Flip, Logged, replay, request_of

SHIPPED = Engine(*shipped())
FACTS = {
    "principal": {"roles": ["operator"], "compartments": [], "uid": 0},
    "resource": {"kind": "weights", "name": "tales", "compartments": [], "state": "ready"},
}
SAMPLE = Logged(
    7,
    "Person:ada",
    "sample",
    "Object:" + "a" * 64,
    {**WORKING, JUDGED: FACTS, "job": "sample-1", "named": ["a" * 64], "object_name": "weights/tales"},
    allow=True,
    reasons=(),
)


def test_the_same_rules_turn_nothing():
    assert replay(SHIPPED, [SAMPLE]).flips == ()
    assert replay(SHIPPED, [SAMPLE]).judged == 1


def test_a_rule_that_forbids_turns_what_it_forbids():
    more = '@id("no-samples") forbid (principal, action == Action::"sample", resource);'
    candidate = Engine({**shipped()[0], "lab.cedar": more}, schema())
    assert replay(candidate, [SAMPLE]).flips == (Flip(SAMPLE, False, ("forbidden-by:no-samples",)),)


def test_a_rule_that_permits_turns_a_denial():
    read = Logged(8, SAMPLE.principal, "read", SAMPLE.resource, SAMPLE.context, False, ("no-rule-permits",))
    more = '@id("all-read") permit (principal is Person, action == Action::"read", resource);'
    candidate = Engine({**shipped()[0], "lab.cedar": more}, schema())
    assert replay(candidate, [read]).flips == (Flip(read, True, ("all-read",)),)


def test_what_no_rule_was_asked_about_is_left_out_and_counted():
    bare = Logged(9, "Person:ada", "sample", "Object:weights/gone", dict(WORKING), False, ("unknown-object",))
    assert request_of(bare) is None
    found = replay(SHIPPED, [bare, SAMPLE])
    assert (found.judged, found.skipped, found.flips) == (1, 1, ())
