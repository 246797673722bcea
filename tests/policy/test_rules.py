"""A set of rules is loaded whole or not at all, and the message says where to look."""

from __future__ import annotations

import time

import pytest

from policy.engine import Engine, shipped
from policy.errors import PolicyInvalid
from policy.rules import MAX_FILE_BYTES, MAX_FILES, formatted, policy_digest

RULES, SCHEMA = shipped()
GOOD = '@id("fine") permit (principal is Person, action == Action::"status", resource);\n'


def load(text: str) -> Engine:
    return Engine({"default.cedar": RULES["default.cedar"], "lab.cedar": text}, SCHEMA)


def test_rules_in_several_files_are_one_set():
    assert load(GOOD).digest == policy_digest({**RULES, "lab.cedar": GOOD}, SCHEMA)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "permit (principal", r"lab\.cedar:2: unexpected end of input; nothing was loaded"),
        (GOOD + "frobid (principal, action, resource);", r"lab\.cedar:2: invalid policy effect: frobid"),
        (GOOD + "permit (principal, action, resource);", r"lab\.cedar:2: expected @id.* found ''"),
        (GOOD + '@id("") permit (principal, action, resource);', r"lab\.cedar:2: expected @id.* found ''"),
        (GOOD + "@id permit (principal, action, resource);", r"lab\.cedar:2: expected @id"),
        (GOOD + '@id("No Spaces") permit (principal, action, resource);', "found 'No Spaces'"),
        (GOOD + GOOD, "two rules have the name 'fine'"),
        (GOOD.replace("fine", "officer-approves"), "two rules have the name 'officer-approves'"),
        (
            '@id("t") permit (principal == ?principal, action, resource);',
            r"lab\.cedar: a rule with \?principal",
        ),
        (
            GOOD + '\n@id("bad")\npermit (principal, action == Action::"fly", resource);',
            r"lab\.cedar:3: rule 'bad': .*fly",
        ),
        (
            '@id("bad") permit (principal is Person, action, resource) when { principal.shoe == 1 };',
            r"lab\.cedar:1: rule 'bad': .*shoe",
        ),
        (
            '@id("bad") permit (principal is Person, action, resource) when { principal.roles > 1 };',
            r"lab\.cedar:1: rule 'bad': .*expected Long",
        ),
        (
            '@id("bad") forbid (principal, action == Action::"create", resource) when { context.signed };',
            r"lab\.cedar:1: rule 'bad': .*signed",
        ),
    ],
    ids=lambda value: value[-30:],
)
def test_a_rule_that_is_wrong_loads_nothing(text, message):
    with pytest.raises(PolicyInvalid, match=message):
        load(text)


def test_a_rule_that_reads_an_optional_fact_unasked_is_refused():
    """The schema makes an erring forbid hard to write: Cedar's validator wants `context has` first."""
    with pytest.raises(PolicyInvalid, match=r"lab\.cedar:1: rule 'f': .*approvals"):
        load(
            '@id("f") forbid (principal, action == Action::"train", resource) when { context.approvals < 2 };'
        )


@pytest.mark.parametrize("rules", [{}, {"a.cedar": ""}, {"a.cedar": "// only words\n"}], ids=repr)
def test_an_empty_set_is_refused(rules):
    with pytest.raises(PolicyInvalid, match="expected at least one rule, found none"):
        Engine(rules, SCHEMA)


def test_ten_megabytes_of_rules_are_refused_before_they_are_parsed():
    start = time.monotonic()
    with pytest.raises(
        PolicyInvalid, match=rf"lab\.cedar: expected at most {MAX_FILE_BYTES} bytes, found 10"
    ):
        load("permit (" * (10 * MAX_FILE_BYTES // 8))
    assert time.monotonic() - start < 1


def test_too_many_files_are_refused():
    with pytest.raises(PolicyInvalid, match=f"at most {MAX_FILES} rule files, found {MAX_FILES + 1}"):
        Engine({f"r{number}.cedar": GOOD for number in range(MAX_FILES + 1)}, SCHEMA)


@pytest.mark.parametrize(
    "name", ["../a.cedar", "A.cedar", "a.txt", ".cedar", "a b.cedar", "a.cedar\n", "-f.cedar"]
)
def test_a_file_name_that_sha256sum_or_a_shell_could_misread_is_refused(name):
    with pytest.raises(PolicyInvalid, match=r"expected a rule file named like lab\.cedar"):
        Engine({name: GOOD}, SCHEMA)


def test_any_change_of_rules_or_schema_changes_the_digest():
    digests = {
        Engine(RULES, SCHEMA).digest,
        Engine({"default.cedar": RULES["default.cedar"] + "\n"}, SCHEMA).digest,
        Engine({"other.cedar": RULES["default.cedar"]}, SCHEMA).digest,
        Engine(RULES, SCHEMA + "\n").digest,
        load(GOOD).digest,
    }
    assert len(digests) == 5


def test_a_file_is_formatted_as_cedar_does_and_means_the_same():
    crooked = '@id("fine")\n\n  permit(principal is Person,action==Action::"status",resource) ;'
    neat = formatted("lab.cedar", crooked)
    assert neat.startswith('@id("fine")\npermit (\n  principal is Person,\n')
    assert formatted("lab.cedar", neat) == neat


@pytest.mark.parametrize("text", ["permit (", GOOD.replace('@id("fine")', "")], ids=["syntax", "no id"])
def test_what_does_not_load_is_not_formatted(text):
    with pytest.raises(PolicyInvalid, match=r"lab\.cedar:1: "):
        formatted("lab.cedar", text)
