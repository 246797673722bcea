"""Facts that were parsed before are taken again only for exactly the same facts."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from policy import facts
from policy.engine import schema
from policy.errors import Refused
from policy.facts import Facts, world_of
from policy.model import Entity, Request
from policy.rules import load

CONTEXT = {
    "profile": "isolated",
    "sealed": False,
    "isolated": True,
    "custody": "passphrase:",
    "log_custody": "file:",
    "since_boot_s": 3600,
    "witnesses": 1,
    "witnessed_once": True,
    "break_glass": False,
}
ADA = {"roles": ("operator",), "compartments": ("a",), "uid": 1000}
MODEL = {"kind": "weights", "name": "tales", "state": "ready", "compartments": ("a",)}


@pytest.fixture
def kept():
    rules = load({"a.cedar": '@id("a") permit (principal, action, resource);'}, schema())
    return Facts(rules.schema)


def ask(principal=ADA, resource=MODEL, kind="Person", **known):
    return Request(
        Entity(kind, "ada", principal), "sample", Entity("Object", "m", resource, **known), CONTEXT
    )


def entities(kept, request):
    return kept.entities(world_of(request), request)


def test_the_same_facts_are_parsed_once(kept):
    first = entities(kept, ask())
    assert entities(kept, ask(dict(ADA), dict(MODEL))) is first
    for other in (
        ask({**ADA, "uid": 1001}),
        ask({**ADA, "compartments": ("b",)}),
        ask(resource={**MODEL, "state": "staged"}),
    ):
        assert entities(kept, other) is not first
    sealed = replace(ask(), context={**CONTEXT, "sealed": True})
    assert entities(kept, sealed) is not first


def test_a_number_is_not_taken_for_the_truth_value_that_it_equals(kept):
    assert entities(kept, ask({**ADA, "uid": 1})) is not None
    with pytest.raises(Refused, match="facts-refused"):
        entities(kept, ask({**ADA, "uid": True}))


def test_what_was_refused_is_refused_again(kept):
    entities(kept, ask())
    for _ in range(2):
        with pytest.raises(Refused, match="entity-missing:Object"):
            entities(kept, ask(known=False))
        with pytest.raises(Refused, match="facts-refused"):
            entities(kept, ask({**ADA, "uid": b"1000"}))


def test_facts_in_another_kind_of_mapping_are_parsed_each_time(kept):
    request = ask(MappingProxyType(ADA))
    assert entities(kept, request) is not entities(kept, request)


def test_no_more_is_kept_than_there_is_room_for(kept, monkeypatch):
    monkeypatch.setattr(facts, "MAX_HANDLES", 2)
    requests = [ask({**ADA, "uid": uid}) for uid in range(3)]
    first, second, third = (entities(kept, request) for request in requests)
    assert (entities(kept, requests[1]), entities(kept, requests[2])) == (second, third)
    assert entities(kept, requests[0]) is not first
    assert len(kept._kept) == 2
