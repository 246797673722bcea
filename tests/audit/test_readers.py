"""Every reader in `tests/fuzz/targets.py`, given rubbish and, more often, what is nearly right."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Defect, Target, demand

MEANINGFUL = st.sampled_from([b"\n", b"\n\n", b" ", b"0", b"+", b"=", b'"', b"\xf5"])
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "put", "repeat", "splice", "end"]),
        st.floats(0, 1),
        st.integers(0, 40),
        st.binary(min_size=1, max_size=4) | MEANINGFUL,
    ),
    min_size=1,
    max_size=4,
)


def edited(seed, other, edits):
    data = bytearray(seed)
    for how, place, length, new in edits:
        at = int(place * len(data))
        if how == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << length % 8
        elif how == "cut":
            del data[at : at + length]
        elif how == "put":
            data[at:at] = new
        elif how == "repeat":
            data[at:at] = data[at : at + length]
        elif how == "splice":
            data[at:] = other[int(place * len(other)) :]
        elif how == "end":
            del data[at:]
    return bytes(data)


@st.composite
def nearly(draw, target):
    seeds = st.sampled_from(target.seeds)
    return edited(draw(seeds), draw(seeds), draw(EDITS))


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_writer_writes_is_read(name):
    for seed in TARGETS[name].seeds:
        assert TARGETS[name].try_(seed), seed


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(max_examples=150)
def test_whatever_is_given_is_read_as_it_was_written_or_refused(name, data):
    target = TARGETS[name]
    target.try_(data.draw(nearly(target) | st.binary(max_size=300)))


@pytest.mark.parametrize("name", TARGETS)
def test_every_cut_and_every_flipped_byte_is_read_as_it_was_written_or_refused(name):
    target = TARGETS[name]
    for seed in target.seeds:
        step = 1 + len(seed) // 300
        for at in range(0, len(seed), step):
            target.try_(seed[:at])
            target.try_(seed[:at] + bytes([seed[at] ^ (1 << at % 8)]) + seed[at + 1 :])


def test_a_reader_that_breaks_or_takes_two_spellings_would_be_found():
    def breaks(data):
        {b"{": 1}[data[:1]]

    def takes_two(data):
        demand(json.dumps(json.loads(data)).encode() == data, "a second spelling")

    with pytest.raises(KeyError):
        Target(breaks, ()).try_(b"x")
    with pytest.raises(Defect, match="a second spelling"):
        Target(takes_two, ()).try_(b"[ ]")
