"""Leaving out the rules that cannot concern a question changes no answer."""

from __future__ import annotations

import json
from itertools import product

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.errors import PolicyInvalid
from policy.rules import load
from policy.slices import policy_set

SCHEMA = """
entity World { open: Bool, level: Long };
entity Group { id: String };
entity Person in [Group] { id: String };
entity Job { id: String };
entity Door in [Group] { id: String };
action work;
action enter, leave in [work] appliesTo { principal: [Person, Job], resource: [Door, Group], context: {} };
action paint appliesTo { principal: [Person, Job], resource: [Door, Group], context: {} };
"""
PRINCIPALS = [("Person", "eve"), ("Person", "ada"), ("Job", "eve")]
RESOURCES = [("Door", "front"), ("Door", "back"), ("Group", "front")]
ACTIONS = ["enter", "leave", "paint"]
HEADS = {
    "principal": [
        *("principal", "principal is Person", "principal is Job", 'principal == Person::"eve"'),
        *('principal in Group::"staff"', 'principal is Person in Group::"staff"', 'principal == Job::"eve"'),
    ],
    "action": [
        *("action", 'action == Action::"enter"', 'action in [Action::"enter", Action::"paint"]'),
        *('action in Action::"work"', 'action in [Action::"paint"]', 'action in Action::"leave"'),
    ],
    "resource": [
        *("resource", "resource is Door", 'resource == Door::"front"', 'resource in Group::"front"'),
        *("resource is Group", 'resource == Group::"front"'),
    ],
}
CONDITIONS = [
    *("", 'when { World::"now".open }', 'unless { World::"now".open }', 'when { principal.id == "eve" }'),
    'when { World::"now".open } unless { [Action::"enter", Action::"leave"].contains(action) }',
    'when { World::"now".open && principal.id == "eve" }',
    'when { action in Action::"work" && !World::"now".open }',
    'when { World::"now".open && Person::"eve" in Group::"staff" }',
    'when { World::"now".level + 9223372036854775807 > 0 }',  # errs at level 1
    'when { World::"now" == World::"now" }',
]
RULES = st.tuples(
    st.sampled_from(["permit", "forbid"]),
    *(st.sampled_from(heads) for heads in HEADS.values()),
    st.sampled_from(CONDITIONS),
)
WORLDS = [
    json.dumps(
        {"uid": {"type": "World", "id": "now"}, "attrs": {"open": open_, "level": level}, "parents": []}
    )
    for open_, level in ((True, 0), (False, 1))
]


def entity(kind: str, name: str, *parents: tuple[str, str]) -> dict[str, object]:
    above = [{"type": each[0], "id": each[1]} for each in parents]
    return {"uid": {"type": kind, "id": name}, "attrs": {"id": name}, "parents": above}


def everything(schema: cedarpy.Schema, world: str) -> cedarpy.Entities:
    staff, front = ("Group", "staff"), ("Group", "front")
    known = [
        json.loads(world),
        entity(*staff),
        entity("Person", "eve", staff),
        entity("Person", "ada"),
        entity("Job", "eve"),
        *(entity(*front), entity("Door", "front", front), entity("Door", "back")),
    ]
    return cedarpy.Entities.from_json_str(json.dumps(known), schema)


@settings(max_examples=60, deadline=None)
@given(st.lists(RULES, min_size=1, max_size=8))
def test_a_slice_answers_as_the_whole_set_does(rules):
    text = "".join(
        f'@id("r{n}") {effect} ({p}, {a}, {r}) {condition};\n'
        for n, (effect, p, a, r, condition) in enumerate(rules)
    )
    try:
        loaded = load({"a.cedar": text}, SCHEMA)
    except PolicyInvalid:  # a head that fits no action at all
        return
    whole, known = policy_set(loaded.by_name), {each: everything(loaded.schema, each) for each in WORLDS}
    for principal, action, resource, world in product(PRINCIPALS, ACTIONS, RESOURCES, WORLDS):
        asked = {
            "principal": {"type": principal[0], "id": principal[1]},
            "action": {"type": "Action", "id": action},
            "resource": {"type": resource[0], "id": resource[1]},
        }
        part = loaded.slices.of(principal, action, resource, world)
        full = cedarpy.is_authorized(asked, whole, known[world], loaded.schema)
        sliced = cedarpy.is_authorized(asked, part, known[world], loaded.schema)
        assert sliced.decision is full.decision
        assert sorted(sliced.diagnostics.reasons) == sorted(full.diagnostics.reasons)
        assert len(sliced.diagnostics.errors) == len(full.diagnostics.errors)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        *(("", 1), ('when { World::"now".open }', 0), ('unless { World::"now".open }', 1)),
        *(
            ('when { action == Action::"paint" }', 0),
            ('when { !World::"now".open && action in Action::"work" }', 1),
        ),
        # Who asks could make it hold, or somebody else's facts; and what errs has to err each time.
        *(('when { World::"now".open && principal.id == "x" }', 1), ('when { resource.id == "x" }', 1)),
        *(
            ('when { Person::"ada" in Group::"staff" }', 1),
            ('when { World::"now".level + 9223372036854775807 > 0 }', 1),
        ),
    ],
)
def test_a_rule_that_the_world_settles_is_left_out_and_no_other(condition, kept):
    slices = load({"a.cedar": f'@id("a") forbid (principal, action, resource) {condition};'}, SCHEMA).slices
    assert len(slices.of(("Person", "eve"), "enter", ("Door", "front"), WORLDS[1])) == kept


@pytest.mark.parametrize(("action", "kept"), [("enter", 2), ("leave", 1), ("paint", 0)])
def test_rules_for_other_actions_are_left_out(action, kept):
    text = """
        @id("a") permit (principal, action == Action::"enter", resource);
        @id("b") forbid (principal, action in Action::"work", resource);
    """
    slices = load({"a.cedar": text}, SCHEMA).slices
    assert len(slices.of(("Person", "eve"), action, ("Door", "front"), "")) == kept


def test_questions_about_different_things_share_a_slice():
    text = '@id("a") permit (principal == Person::"eve", action, resource);'
    slices = load({"a.cedar": text}, SCHEMA).slices
    first = slices.of(("Person", "ada"), "enter", ("Door", "front"), "")
    assert slices.of(("Person", "bob"), "enter", ("Door", "back"), "") is first
    assert slices.of(("Person", "eve"), "enter", ("Door", "back"), "") is not first
