"""Tables of expected decisions: what they find, and that a table which would test nothing is refused."""

from __future__ import annotations

import pytest

from policy.cases import MAX_TABLE_CHARS, demand_promises, parse_cases
from policy.engine import Engine, schema, shipped
from policy.errors import Malformed, PolicyInvalid

SHIPPED = Engine(*shipped())
CASE = """
[[case]]
name = "ada trains"
principal = "Person:ada"
roles = ["operator"]
action = "train"
resource = "Object:config/tiny"
expect = "allow"
because = ["operator-trains-from-config"]
"""


def wrong(text: str) -> list[str]:
    return [
        told for case in parse_cases(text, "t.toml") if (told := case.differs(SHIPPED.decide(case.request)))
    ]


def test_a_case_that_is_answered_as_expected_says_nothing():
    assert wrong(CASE) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('"allow"', '"deny"'), "ada trains: expected deny, found allow (operator-trains-from-config)"),
        (('["operator"]', "[]"), "ada trains: expected allow, found deny (no-rule-permits)"),
        (
            ('"operator-trains-from-config"', '"other"'),
            "ada trains: expected other among the reasons, found operator-trains-from-config",
        ),
    ],
    ids=["expectation", "role", "rule"],
)
def test_a_case_that_is_answered_otherwise_says_how(change, told):
    assert wrong(CASE.replace(*change)) == [told]


@pytest.mark.parametrize(
    ("principal", "resource", "action", "more"),
    [
        ("Job:j", "Object:weights/x", "use", 'objects = ["weights/x"]'),
        ("Job:j", "Bundle:b", "open", 'purpose = "import"\nobjects = ["b"]'),
        ("Custodian:c", "Object:weights/x", "verify", 'state = "staged"'),
        ("Person:ada", "JobRecord:j", "stop", 'roles = ["operator"]'),
        ("Person:ada", "Appliance:a", "status", 'roles = ["operator"]\nfacts = { sealed = true }'),
    ],
)
def test_every_kind_of_question_can_be_written(principal, resource, action, more):
    text = f'[[case]]\nprincipal = "{principal}"\nresource = "{resource}"\naction = "{action}"\n'
    text += f'expect = "allow"\n{more}'
    assert wrong(text) == []


def test_defaults_are_for_every_case_and_a_case_adds_to_their_facts():
    text = '[defaults]\nprincipal = "Person:ada"\nroles = ["operator"]\nresource = "Appliance:a"\n'
    text += 'facts = { sealed = true }\n[[case]]\naction = "status"\nexpect = "allow"\n'
    text += '[[case]]\naction = "rotate"\nexpect = "deny"\nfacts = { witnesses = 2 }\n'
    text += 'because = ["invariant:sealed"]'
    assert wrong(text) == []
    assert [case.name for case in parse_cases(text, "t.toml")] == ["t.toml: case 1", "t.toml: case 2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "t.toml: expected TOML"),
        ("", r"t.toml: expected at least one \[\[case\]\]"),
        ("case = 1", r"expected \[defaults\] and \[\[case\]\] only"),
        ("defaults = 1\n" + CASE, r"expected \[defaults\] and"),
        ("case = [1]", "case 1: expected a table, found 1"),
        ("[cases]\n" + CASE, r"expected \[defaults\] and \[\[case\]\] only, found case, cases"),
        (CASE + "rols = []", "case 1: expected only .* found 'rols'"),
        (CASE.replace('expect = "allow"', ""), "case 1: expected `expect` to be allow or deny, found ''"),
        (CASE.replace("Person:ada", "ada"), "case 1: expected TYPE:NAME such as Person:ada, found 'ada'"),
        (CASE.replace("Person:ada", "Ghost:ada"), "expected a principal Person:, Job: or Custodian:"),
        (CASE.replace("Object:config", "Ghost:config"), "expected a resource Object:, Bundle:"),
        (CASE.replace('"train"', "7"), "case 1: expected a text as `action`, found 7"),
        (CASE.replace('["operator"]', "[7]"), "case 1: expected a list of texts as `roles`"),
        (CASE + "facts = 7", "case 1: expected a table of facts, found 7"),
        (" " * (MAX_TABLE_CHARS + 1), "expected at most"),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
def test_a_table_that_would_test_something_else_is_refused(text, message):
    with pytest.raises(Malformed, match=message):
        parse_cases(text, "t.toml")


def test_a_set_that_locks_everybody_out_or_lets_one_person_decide_is_refused():
    text = shipped()[0]["default.cedar"]
    without_status = text.replace('    Action::"status", Action::"stop", ', '    Action::"stop", ')
    assert without_status != text
    with pytest.raises(
        PolicyInvalid, match="an operator sees how the appliance is: expected allow, found deny"
    ):
        demand_promises(Engine({"lab.cedar": without_status}, schema()))
    everything = '@id("all") permit (principal, action, resource);'
    with pytest.raises(PolicyInvalid, match="a stranger is nobody: expected deny, found allow"):
        demand_promises(Engine({"lab.cedar": everything}, schema()))
