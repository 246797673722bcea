"""Thresholds: never one person, never one person for two, and roles that are all there."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import Malformed
from policy.quorum import (
    ACTIONS,
    MAX_TEXT_CHARS,
    Quorum,
    check_quorums,
    demand_reachable,
    parse_quorums,
    quorum_of,
)

SECURITY, DATA = {"officer", "security-officer"}, {"officer", "data-owner"}
BOTH = Quorum(2, {"security-officer": 1, "data-owner": 1})


def test_two_people_are_asked_for_where_nothing_is_said():
    for action in (*ACTIONS, "anything"):
        assert quorum_of({}, action) == Quorum(2, {})
        assert quorum_of({"default": {}}, action).people == 2
    assert quorum_of({"default": {"people": 3}}, "shred").people == 3
    assert quorum_of({"default": {"people": 3}, "shred": {"data-owner": 1}}, "shred") == Quorum(
        2, {"data-owner": 1}
    )


@pytest.mark.parametrize("people", [0, 1, -1, 17, True, "2", None, 2.0])
def test_a_threshold_that_is_none_is_refused(people):
    with pytest.raises(Malformed, match="expected 2 to 16 people"):
        check_quorums({"export": {"people": people}})


@pytest.mark.parametrize("roles", [{"data-owner": 0}, {"data-owner": True}, {"Data": 1}, {"": 1}, {"a": "1"}])
def test_a_role_that_nobody_fills_is_refused(roles):
    with pytest.raises(Malformed, match="expected a role with 1 to 16 people"):
        check_quorums({"export": {"people": 4, **roles}})


def test_more_places_than_people_are_refused():
    with pytest.raises(Malformed, match="as many people as places in roles, found 2 people"):
        check_quorums({"export": {"security-officer": 2, "data-owner": 1}})


def test_fewer_people_than_asked_for_are_missing():
    assert Quorum(2).missing({}) == ("0-of-2",)
    assert Quorum(2).missing({"ada": SECURITY}) == ("1-of-2",)
    assert Quorum(2).missing({"ada": SECURITY, "bob": ()}) == ()


def test_each_role_must_be_there():
    assert BOTH.missing({"ada": SECURITY, "bob": SECURITY}) == ("data-owner",)
    assert BOTH.missing({"ada": SECURITY, "bob": DATA}) == ()
    assert BOTH.missing({"ada": SECURITY}) == ("1-of-2", "data-owner")


def test_one_person_with_two_roles_fills_one_place():
    everything = SECURITY | DATA
    assert BOTH.missing({"ada": everything, "bob": {"officer"}}) == ("security-officer",)
    assert BOTH.missing({"ada": everything, "bob": SECURITY}) == ()
    assert BOTH.missing({"zoe": everything, "bob": DATA}) == ()


@given(
    st.lists(st.sampled_from("abc"), max_size=4),
    st.dictionaries(st.sampled_from("vwxyz"), st.sets(st.sampled_from("abc")), max_size=5),
)
def test_places_are_filled_whenever_some_assignment_fills_them(places, people):
    """Every way to seat people, tried one by one, is the second opinion."""
    wanted = {role: places.count(role) for role in places}
    quorum = Quorum(max(2, len(places)), wanted)
    possible = len(people) >= len(places) and any(
        all(role in people[person] for role, person in zip(places, seated, strict=True))
        for seated in itertools.permutations(people, len(places))
    )
    lacks = [lack for lack in quorum.missing(people) if "-of-" not in lack]
    assert (not lacks) == possible


def test_quorums_as_people_write_them():
    text = "[default]\npeople = 2\n[export]\npeople = 3\nsecurity-officer = 1\ndata-owner = 1\n"
    quorums = parse_quorums(text)
    assert quorum_of(quorums, "export") == Quorum(3, {"security-officer": 1, "data-owner": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[export", "expected TOML"),
        ("[exports]\npeople = 2", "expected tables named break-glass, configure, export, shred or default"),
        ("export = 2", "expected tables named"),
        ("#" * (MAX_TEXT_CHARS + 1), "at most 16384 characters"),
    ],
)
def test_what_is_no_table_of_quorums_is_refused(text, said):
    with pytest.raises(Malformed, match=said):
        parse_quorums(text)


@pytest.mark.parametrize(("given", "said"), [([], "found list"), ({"export": {1: 2}}, "roles by name")])
def test_a_logged_value_of_another_type_is_refused(given, said):
    with pytest.raises(Malformed, match=said):
        check_quorums(given)


def test_a_quorum_that_nobody_could_meet_is_refused():
    quorums = {"export": {"people": 2, "data-owner": 1}}
    demand_reachable(quorums, {"ada": SECURITY, "bob": DATA})
    with pytest.raises(
        Malformed, match="quorum of export: 2 officers could never meet it, missing data-owner"
    ):
        demand_reachable(quorums, {"ada": SECURITY, "bob": SECURITY})
    with pytest.raises(Malformed, match="missing 1-of-2; enrol more first"):
        demand_reachable({}, {"ada": SECURITY})
