"""Every way in which Cedar alone answers Allow, or nothing, where the engine must deny.

Each test first shows Cedar's own answer, so that it fails when a new Cedar no longer has the trap.
"""

from __future__ import annotations

import json
from types import MappingProxyType, SimpleNamespace

import cedarpy
import pytest

from policy import engine as engine_module
from policy.engine import Engine
from policy.errors import PolicyInvalid
from policy.facts import MAX_ENTITIES, MAX_FACTS_BYTES
from policy.model import WORLD_FACTS, Entity, Request
from tests.policy.conftest import DEVELOPMENT

SCHEMA = """
entity Group { id: String };
entity Person in [Group] { id: String, level: Long };
entity Door { id: String };
entity World {
  profile: String, sealed: Bool, isolated: Bool, custody: String, log_custody: String, since_boot_s: Long,
  witnesses: Long, witnessed_once: Bool, break_glass: Bool,
};
type Facts = { count?: Long };
action enter appliesTo { principal: [Person], resource: [Door], context: Facts };
"""
OPEN = '@id("open") permit (principal, action, resource);'
FACTS = {name: DEVELOPMENT[name] for name in WORLD_FACTS}
DOOR = Entity("Door", "d", {})
EVE = Entity("Person", "eve", {"level": 1})


def engine(*rules: str) -> Engine:
    return Engine({"a.cedar": "\n".join(rules)}, SCHEMA)


def bare_cedar(rules: str, *, entities: object = (), schema: str | None = None, context: object = None):
    request = {
        "principal": {"type": "Person", "id": "eve"},
        "action": {"type": "Action", "id": "enter"},
        "resource": {"type": "Door", "id": "d"},
        "context": FACTS if context is None else context,
    }
    return cedarpy.is_authorized(request, rules, json.dumps(list(entities)), schema)


def test_an_erring_forbid_is_skipped_by_cedar_and_denied_here():
    overflow = (
        '@id("low") forbid (principal, action, resource) when { principal.level + 9223372036854775807 > 0 };'
    )
    eve = {"uid": {"type": "Person", "id": "eve"}, "attrs": {"id": "eve", "level": 1}, "parents": []}
    door = {"uid": {"type": "Door", "id": "d"}, "attrs": {"id": "d"}, "parents": []}
    bare = bare_cedar(OPEN + overflow, entities=[eve, door], schema=SCHEMA, context={})
    assert bare.allowed
    assert bare.diagnostics.errors

    decision = engine(OPEN, overflow).decide(Request(EVE, "enter", DOOR, FACTS))

    assert not decision.allow
    assert decision.reasons == ("engine-error",)
    low = Entity("Person", "eve", {"level": -1})
    assert engine(OPEN, overflow).decide(Request(low, "enter", DOOR, FACTS)).reasons == ("forbidden-by:low",)


def test_an_absent_entity_that_no_rule_reads_is_allowed_by_cedar_and_denied_here():
    assert bare_cedar(OPEN).allowed

    stranger = Entity("Person", "eve", {}, known=False)

    assert engine(OPEN).decide(Request(stranger, "enter", DOOR, FACTS)).reasons == ("entity-missing:Person",)
    gone = Entity("Door", "d", {}, known=False)
    assert engine(OPEN).decide(Request(EVE, "enter", gone, FACTS)).reasons == ("entity-missing:Door",)


def test_an_absent_entity_that_a_forbid_reads_is_allowed_by_cedar_and_denied_here():
    forbid = '@id("low") forbid (principal, action, resource) when { principal.level < 2 };'
    assert bare_cedar(OPEN + forbid).allowed

    assert (
        not engine(OPEN, forbid)
        .decide(Request(Entity("Person", "eve", {}, known=False), "enter", DOOR, FACTS))
        .allow
    )
    no_facts = engine(OPEN, forbid).decide(Request(Entity("Person", "eve", {}), "enter", DOOR, FACTS))
    assert no_facts.reasons == ("facts-refused",)


def test_an_absent_parent_is_denied():
    staff = Entity("Group", "staff", {}, known=False)
    asked = Request(Entity("Person", "eve", {"level": 1}, (staff,)), "enter", DOOR, FACTS)

    assert engine(OPEN).decide(asked).reasons == ("entity-missing:Group",)


def test_a_parent_that_came_with_its_facts_counts():
    rule = '@id("staff") permit (principal in Group::"staff", action, resource);'
    eve = Entity("Person", "eve", {"level": 1}, (Entity("Group", "staff", {}),))

    decision = engine(rule).decide(Request(eve, "enter", DOOR, FACTS))

    assert decision.allow
    assert decision.policies == ("staff",)
    assert engine(rule).decide(Request(EVE, "enter", DOOR, FACTS)).reasons == ("no-rule-permits",)


def test_no_decision_is_a_denial():
    bare = bare_cedar(OPEN, schema=SCHEMA, context={"unlisted": 1})
    assert bare.decision is cedarpy.Decision.NoDecision

    decision = engine(OPEN).decide(Request(EVE, "enter", DOOR, {**FACTS, "unlisted": 1}))

    assert not decision.allow
    assert decision.reasons == ("context-refused",)


def test_an_unknown_action_is_allowed_by_cedar_without_a_schema_and_denied_here():
    assert bare_cedar(OPEN).allowed

    assert engine(OPEN).decide(Request(EVE, "leave", DOOR, FACTS)).reasons == ("unknown-action",)


@pytest.mark.parametrize("name", ["profile", "sealed", "isolated"])
def test_a_forbid_on_missing_context_is_skipped_by_cedar_and_denied_here(name):
    fact = f'World::"now".{name}'
    forbid = f'@id("f") forbid (principal, action, resource) when {{ {fact} == {fact} }};'
    without = {key: value for key, value in FACTS.items() if key != name}
    world = {"uid": {"type": "World", "id": "now"}, "attrs": without, "parents": []}
    assert bare_cedar(OPEN + forbid, entities=[world]).allowed

    reasons = engine(OPEN, forbid).decide(Request(EVE, "enter", DOOR, without)).reasons
    assert reasons == (f"context-missing:{name}", "facts-refused")


def test_a_forbid_on_missing_context_of_one_request_is_skipped_by_cedar_and_denied_here():
    schema = SCHEMA.replace("count?: Long", "count: Long")
    forbid = '@id("f") forbid (principal, action, resource) when { context.count > 3 };'
    assert bare_cedar(OPEN + forbid, context={}).allowed

    strict = Engine({"a.cedar": OPEN + forbid}, schema)
    assert strict.decide(Request(EVE, "enter", DOOR, FACTS)).reasons == ("context-refused",)
    assert strict.decide(Request(EVE, "enter", DOOR, {**FACTS, "count": 3})).allow


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ({"sealed": 0}, ("context-missing:sealed", "facts-refused")),
        ({"profile": True}, ("context-missing:profile", "facts-refused")),
        ({"count": "1"}, ("context-refused",)),
    ],
    ids=str,
)
def test_a_fact_of_another_type_is_denied(more, reasons):
    decision = engine(OPEN).decide(Request(EVE, "enter", DOOR, {**FACTS, **more}))

    assert not decision.allow
    assert decision.reasons == reasons


@pytest.mark.parametrize(
    "schema", ["entity Person {", "entity Person { id: Nowhere };", "", "  \n", "garbage"]
)
def test_an_invalid_schema_loads_nothing(schema):
    with pytest.raises(PolicyInvalid, match=r"schema\.cedarschema"):
        Engine({"a.cedar": OPEN}, schema)


def test_a_resource_that_the_action_does_not_apply_to_is_denied():
    assert engine(OPEN).decide(Request(DOOR, "enter", EVE, FACTS)).reasons == ("not-applicable",)
    assert engine(OPEN).decide(Request(EVE, "enter", Entity("Window", "w", {}), FACTS)).reasons == (
        "facts-refused",
    )


class Unwritable:
    """What no JSON can say; its name in a test's id is the same in every process."""

    def __repr__(self) -> str:
        return "Unwritable()"


@pytest.mark.parametrize(
    "attrs",
    [
        {"level": "1"},
        {"level": 1.0},
        {"level": None},
        {"level": 2**63},
        {"level": float("nan")},
        {"level": Unwritable()},
        {"level": True},
        {"level": {"__entity": {"type": "Person", "id": "root"}}},
        {"level": 1, "id": "root"},
        {"level": 1, "more": 1},
        {"level": 1, ("a", "b"): 1},
        {},
    ],
    ids=repr,
)
def test_facts_that_the_schema_does_not_know_are_denied(attrs):
    assert engine(OPEN).decide(Request(EVE, "enter", DOOR, FACTS)).allow

    asked = Request(Entity("Person", "eve", attrs), "enter", DOOR, FACTS)

    assert engine(OPEN).decide(asked).reasons == ("facts-refused",)


def test_facts_without_end_or_bound_are_denied():
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    ring: dict[str, object] = {}
    ring["ring"] = ring
    for context in ({**FACTS, "count": deep}, {**FACTS, **ring}, {**FACTS, "profile": "x" * MAX_FACTS_BYTES}):
        assert engine(OPEN).decide(Request(EVE, "enter", DOOR, context)).reasons == ("facts-refused",)


def test_a_crowd_of_parents_is_refused():
    crowd = tuple(Entity("Group", f"g{number}", {}) for number in range(MAX_ENTITIES))

    decision = engine(OPEN).decide(
        Request(Entity("Person", "eve", {"level": 1}, crowd), "enter", DOOR, FACTS)
    )

    assert decision.reasons == ("facts-refused",)


@pytest.mark.parametrize(
    "name",
    ["", "\N{CYRILLIC SMALL LETTER IE}ve", "eve\n", "eve\u202e", "e" * 257, "\ud800", "eve\0"],
    ids=ascii,
)
def test_a_name_that_could_be_taken_for_another_is_denied(name):
    asked = Request(Entity("Person", name, {"level": 1}), "enter", DOOR, FACTS)

    assert engine(OPEN).decide(asked).reasons == ("name-refused",)


def test_two_accounts_of_one_entity_are_denied():
    schema = SCHEMA.replace("resource: [Door]", "resource: [Person]")
    both = Engine({"a.cedar": OPEN}, schema)

    asked = Request(EVE, "enter", Entity("Person", "eve", {"level": 9}), FACTS)

    assert both.decide(asked).reasons == ("facts-refused",)


def test_sets_and_read_only_mappings_are_facts_like_lists():
    schema = (
        SCHEMA[SCHEMA.index("entity World") : SCHEMA.index("type Facts")] + "type F = { n?: { m: Long } };"
    )
    schema += "entity P { id: String, tags: Set<String> };"
    schema += "action go appliesTo { principal: P, resource: P, context: F };"
    rule = '@id("go") permit (principal, action, resource) when { principal.tags.contains("x") };'
    walker = Entity("P", "p", MappingProxyType({"tags": frozenset({"x", "y"})}))

    context = MappingProxyType({**FACTS, "n": MappingProxyType({"m": 1})})
    assert Engine({"a.cedar": rule}, schema).decide(Request(walker, "go", walker, context)).allow


class Panic(BaseException):
    """Stands for the panic of a native extension, which is no Exception."""


@pytest.mark.parametrize("fault", [RuntimeError("broken"), Panic("broken"), MemoryError()], ids=repr)
def test_an_engine_that_breaks_denies(monkeypatch, fault):
    judge = engine(OPEN)

    def broken(*_: object) -> None:
        raise fault

    monkeypatch.setattr(engine_module.cedarpy, "is_authorized", broken)

    assert judge.decide(Request(EVE, "enter", DOOR, FACTS)).reasons == ("engine-error",)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
def test_a_person_can_still_interrupt(monkeypatch, fault):
    judge = engine(OPEN)

    def interrupted(*_: object) -> None:
        raise fault

    monkeypatch.setattr(engine_module.cedarpy, "is_authorized", interrupted)
    with pytest.raises(fault):
        judge.decide(Request(EVE, "enter", DOOR, FACTS))


def answer(
    decision: cedarpy.Decision, errors: list[str], names: dict[str, str], reasons: list[str]
) -> SimpleNamespace:
    told = SimpleNamespace(errors=errors, reasons=reasons, id_annotations_by_reason=names)
    return SimpleNamespace(decision=decision, diagnostics=told)


@pytest.mark.parametrize(
    ("told", "reasons"),
    [
        (answer(cedarpy.Decision.Allow, [], {}, []), ("engine-error",)),
        (answer(cedarpy.Decision.Allow, [], {}, ["policy0"]), ("engine-error",)),
        (answer(cedarpy.Decision.Allow, ["x"], {"policy0": "open"}, ["policy0"]), ("engine-error",)),
        (answer(cedarpy.Decision.NoDecision, ["words nobody has seen"], {}, []), ("engine-error",)),
        (answer("Allow", [], {"policy0": "open"}, ["policy0"]), ("forbidden-by:open",)),
    ],
    ids=["no rule", "unnamed rule", "errors", "unknown words", "not the enum"],
)
def test_an_answer_that_is_not_a_plain_allow_denies(monkeypatch, told, reasons):
    judge = engine(OPEN)
    monkeypatch.setattr(engine_module.cedarpy, "is_authorized", lambda *_: told)

    decision = judge.decide(Request(EVE, "enter", DOOR, FACTS))

    assert not decision.allow
    assert decision.reasons == reasons


def test_something_that_is_no_request_denies():
    assert engine(OPEN).decide(None).reasons == ("engine-error",)  # type: ignore[arg-type]  the attack
    assert engine(OPEN).decide(Request(EVE, 7, DOOR, FACTS)).reasons == ("engine-error",)  # type: ignore[arg-type]
