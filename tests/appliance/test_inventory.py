"""The tally over what the log says lies in the vault: the same events, the same digest, and no others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import IntegrityError
from appliance.inventory import (
    CREATED,
    EVENTS,
    KEY_BEGUN,
    KEY_ROTATED,
    SHREDDED,
    STARTED,
    TALLY,
    Event,
    Inventory,
    Tally,
    event_of,
    may_tell,
    tally_in,
)
from audit.entry import Record, encode_entry, parse_entry

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
CREATIONS = [
    Event(CREATED, (A, "weights", "tiny", 1)),
    Event(CREATED, (B, "weights", "tiny", 2)),
    Event(CREATED, (C, "config", "tiny", 1)),
]


def entry_of(kind, context):
    record = Record(kind, "Custodian:custodian", "create", "Object:x", context)
    return encode_entry(record, 7, "2031-01-01T00:00:00.000000Z")


def test_the_digest_is_a_chain_that_anybody_can_compute():
    digest = bytes(32)
    for event in CREATIONS:
        line = json.dumps([event.kind, *event.about], separators=(",", ":")).encode()
        digest = hashlib.sha256(digest + line).digest()
    assert Inventory.of(CREATIONS).tally == Tally(3, digest.hex())


@given(st.permutations(range(5)), st.integers(0, 4))
def test_other_events_or_another_order_give_another_digest(order, dropped):
    events = [*CREATIONS, Event(SHREDDED, (B,)), Event(KEY_ROTATED, ("age1x",))]
    whole = Inventory.of(events).tally
    shuffled = Inventory.of(events[index] for index in order).tally
    assert (shuffled.digest == whole.digest) == (list(order) == list(range(5)))
    assert Inventory.of(events[:dropped] + events[dropped + 1 :]).tally != whole


@pytest.mark.parametrize(
    "about",
    [
        (A, "config", "tiny", 1),
        (A, "weights", "small", 1),
        (A, "weights", "tiny", 2),
        (B, "weights", "tiny", 1),
    ],
)
def test_a_renamed_object_gives_another_digest(about):
    assert Inventory.of([Event(CREATED, about)]).tally != Inventory.of(CREATIONS[:1]).tally


def test_the_newest_of_a_name_is_the_newest_that_was_not_shredded():
    inventory = Inventory.of(CREATIONS)
    assert (inventory.newest("weights", "tiny"), inventory.newest("config", "tiny")) == (B, C)
    inventory.take(Event(SHREDDED, (B,)))
    assert inventory.newest("weights", "tiny") == A
    inventory.take(Event(SHREDDED, (A,)))
    assert inventory.newest("weights", "tiny") is None
    assert inventory.newest("weights", "other") is None


def test_a_rotation_that_began_names_the_next_recipient_until_it_ends():
    inventory = Inventory.of([Event(KEY_BEGUN, ("age1x",))])
    assert (inventory.vault_recipient, inventory.next_recipient) == (None, "age1x")
    inventory.take(Event(KEY_ROTATED, ("age1x",)))
    assert (inventory.vault_recipient, inventory.next_recipient) == ("age1x", None)


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_is_read_back_from_its_entry_and_seen_at_a_glance(kind):
    context = {"object": A, "kind": "weights", "name": "tiny", "version": 1, "vault_recipient": "age1x"}
    entry = entry_of(kind, context)
    parsed = parse_entry(entry)
    event = event_of(parsed.kind, parsed.context)
    assert event is not None
    assert event.kind == kind
    assert set(event.about) <= set(context.values())
    assert may_tell(entry)
    with pytest.raises(IntegrityError, match=f"log entry {kind}: expected .* found"):
        event_of(kind, {"other": 1})


def test_only_what_the_custodian_writes_carries_a_tally():
    told = Tally(3, "ab" * 32)
    started = entry_of(STARTED, {TALLY: told.told()})
    assert may_tell(started)
    assert tally_in(parse_entry(started)) == told
    assert tally_in(replace(parse_entry(started), kind="decision")) is None
    assert tally_in(parse_entry(entry_of(STARTED, {TALLY: "none"}))) is None
    other = entry_of("note", {"kind": "object-created", "reason": '"kind":"object-created"'})
    assert event_of("note", parse_entry(other).context) is None
    assert not may_tell(entry_of("note", {"reason": '"inventory":'}))
