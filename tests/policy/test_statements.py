"""A rule file is cut where Cedar ends a rule, whatever stands in strings and comments."""

from __future__ import annotations

import json

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.engine import shipped
from policy.statements import Statement, statements

RULE = "permit (principal, action, resource)"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("", []),
        ("// only ; words\n", []),
        (f"{RULE};", [Statement(1, f"{RULE};")]),
        (f"// a;\n\n{RULE};\n{RULE};", [Statement(3, f"{RULE};"), Statement(4, f"{RULE};")]),
        ('@id("a;b\\"c;") x; y', [Statement(1, '@id("a;b\\"c;") x;'), Statement(1, "y")]),
        ("a // ;\nb;\nc", [Statement(1, "a // ;\nb;"), Statement(3, "c")]),
        ('a "never ends; b;', [Statement(1, 'a "never ends; b;')]),
        ("a / b;", [Statement(1, "a / b;")]),
    ],
    ids=repr,
)
def test_rules_are_cut_at_semicolons_of_their_own(source, expected):
    assert statements(source) == expected


def test_the_shipped_rules_are_cut_as_cedar_reads_them():
    for text in shipped()[0].values():
        read = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
        found = statements(text)
        assert len(found) == len(read)
        for number, statement in enumerate(found):
            alone = json.loads(cedarpy.policies_to_json_str(statement.text))["staticPolicies"]
            assert alone["policy0"] == read[f"policy{number}"]
            assert text.splitlines()[statement.line - 1] == statement.text.splitlines()[0]


@given(st.text(alphabet='a"\\;/\n @', max_size=40))
def test_nothing_is_lost_but_comments_and_blanks_between_rules(source):
    position = 0
    for statement in statements(source):
        position = source.index(statement.text, position) + len(statement.text)
        assert source.count("\n", 0, position - len(statement.text)) == statement.line - 1
