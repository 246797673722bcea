"""Trees and proofs against an independent library, `pymerkle`, and against their own definition of "right".

Equal hashes are stronger than "both verify": a verifier that accepts too much would pass the second.
"""

from __future__ import annotations

import random
from functools import cache

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import Invalid
from audit.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    newest_proofs,
    node_hash,
    range_root,
    verify_consistency,
    verify_inclusion,
)
from audit.tree import Tree

EVERY_SIZE_TO = 300
LARGEST = 100_000


class Both:
    """One tree twice: theirs, and ours as rows of complete nodes; leaf i is the text of i."""

    def __init__(self, size):
        self.theirs = pymerkle.InmemoryTree(algorithm="sha256")
        row = []
        for index in range(size):
            self.theirs.append_entry(b"%d" % index)
            row.append(leaf_hash(b"%d" % index))
        self.rows = [row]
        while len(row) > 1:
            row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
            self.rows.append(row)

    def subtree(self, height, index):
        return self.rows[height][index]

    def leaf(self, index):
        return self.rows[0][index]

    def root(self, size):
        return range_root(0, size, self.subtree)

    def demand_same_inclusion(self, index, size, head):
        proof = inclusion_proof(index, size, self.subtree)
        theirs = self.theirs.prove_inclusion(index + 1, size)  # they count from 1
        assert [self.leaf(index), *proof] == theirs.path, (index, size)
        verify_inclusion(self.leaf(index), index, size, proof, head)

    def demand_same_consistency(self, old, new, heads):
        """The RFC's proof from their hashes is ours; their own, of another form, holds for the same heads."""
        proof = consistency_proof(old, new, self.subtree)
        assert proof == [self.their_root(*span) for span in subproof(old, 0, new, known=True)], (old, new)
        verify_consistency(old, new, proof, *heads)
        self.theirs.prove_consistency(old, new).verify(*heads, prior_size=old, later_size=new)

    @cache  # noqa: B019  lives as long as the module's fixture
    def their_root(self, begin, end):
        return self.theirs._get_root(begin, end)


def subproof(old, begin, end, *, known):
    """SUBPROOF of RFC 6962 section 2.1.2, word for word, as the spans of leaves whose roots it lists."""
    if begin + old == end:
        return [] if known else [(begin, end)]
    k = 1 << (end - begin - 1).bit_length() - 1
    if old <= k:
        return [*subproof(old, begin, begin + k, known=known), (begin + k, end)]
    return [*subproof(old - k, begin + k, end, known=False), (begin, begin + k)]


@pytest.fixture(scope="module")
def small():
    return Both(EVERY_SIZE_TO)


@pytest.fixture(scope="module")
def large():
    return Both(LARGEST)


def test_every_tree_to_300_leaves_has_the_same_root_and_the_same_proof_for_every_leaf(small):
    grown = Tree()
    for size in range(1, EVERY_SIZE_TO + 1):
        grown.append(small.leaf(size - 1))
        head = small.root(size)
        assert head == grown.root() == small.theirs.get_root(size), size
        for index in range(size):
            small.demand_same_inclusion(index, size, head)


def test_every_pair_of_trees_to_300_leaves_has_the_rfcs_proof_of_consistency(small):
    heads = [small.root(size) for size in range(EVERY_SIZE_TO + 1)]
    for new in range(1, EVERY_SIZE_TO + 1):
        for old in range(1, new + 1):
            small.demand_same_consistency(old, new, (heads[old], heads[new]))


@pytest.mark.parametrize("seed", range(4))
def test_random_trees_to_100000_leaves_have_the_same_roots_and_proofs(large, seed):
    draw = random.Random(seed)
    for _ in range(40):
        near = draw.choice([2, 256, 65_536])  # around a power of two is where a split goes wrong
        new = min(LARGEST, draw.choice([draw.randint(1, LARGEST), max(1, near + draw.randint(-2, 2))]))
        old, index = draw.randint(1, new), draw.randrange(new)
        heads = large.root(old), large.root(new)
        assert heads[1] == large.theirs.get_root(new), new
        large.demand_same_inclusion(index, new, heads[1])
        large.demand_same_consistency(old, new, heads)


def test_proofs_made_together_are_the_ones_made_one_by_one(small):
    draw = random.Random(0)
    cases = {(first, size) for size in range(1, 40) for first in range(size)}
    cases |= {(size - draw.randint(1, min(size, 256)), size) for size in range(40, EVERY_SIZE_TO + 1)}
    for first, size in sorted(cases):
        proofs, head = newest_proofs(first, size, small.subtree)
        assert head == small.root(size), (first, size)
        expected = [inclusion_proof(index, size, small.subtree) for index in range(first, size)]
        assert proofs == expected, (first, size)


def flip(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


SIZES = st.integers(1, EVERY_SIZE_TO)
BITS = st.integers(0, 255)


@given(size=SIZES, extra=st.lists(st.binary(min_size=32, max_size=32), max_size=12))
def test_no_proof_shows_the_index_that_is_the_size(small, size, extra):
    """The last leaf's own proof, and any other list of hashes, says nothing about the place behind it."""
    with pytest.raises(Invalid, match=f"below the tree's size {size}, found {size}"):
        inclusion_proof(size, size, small.subtree)
    for proof in (extra, inclusion_proof(size - 1, size, small.subtree)):
        for leaf in (small.leaf(size - 1), small.root(size)):
            with pytest.raises(Invalid, match=f"below the tree's size {size}, found {size}"):
                verify_inclusion(leaf, size, size, proof, small.root(size))


@given(size=SIZES, place=st.integers(0, 10), bit=BITS, data=st.data())
def test_an_inclusion_proof_holds_for_its_leaf_place_tree_and_hashes_only(small, size, place, bit, data):
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size + 300))
    leaf, head = small.leaf(index), small.root(size)
    proof = inclusion_proof(index, size, small.subtree)
    wrong = [
        (flip(leaf, bit), index, size, proof, head),
        (leaf, index, size, proof, flip(head, bit)),
        (leaf, index, size, [*proof, leaf], head),
        (leaf, index, size, [leaf, *proof], head),
    ]
    if other != index:
        wrong.append((leaf, other, size, proof, head))
    if proof:
        place %= len(proof)
        wrong += [
            (leaf, index, size, [*proof[:place], flip(proof[place], bit), *proof[place + 1 :]], head),
            (leaf, index, size, [*proof[:place], *proof[place + 1 :]], head),
        ]
    if len(proof) > 1:
        wrong.append((leaf, index, size, proof[::-1], head))
    for case in wrong:
        with pytest.raises(Invalid, match="inclusion proof"):
            verify_inclusion(*case)


@given(new=SIZES, place=st.integers(0, 10), bit=BITS, data=st.data())
def test_a_consistency_proof_holds_for_its_two_trees_only(small, new, place, bit, data):
    old = data.draw(st.integers(0, new))
    heads = small.root(old), small.root(new)
    proof = consistency_proof(old, new, small.subtree)
    wrong = [
        (old, new, [*proof, heads[1]], *heads),
        (old, new, proof, flip(heads[0], bit), heads[1]),
        (new + 1, new, proof, *heads),
    ]
    if old:
        wrong.append((old, new, proof, heads[0], flip(heads[1], bit)))
    if proof:
        place %= len(proof)
        wrong += [
            (old, new, [*proof[:place], flip(proof[place], bit), *proof[place + 1 :]], *heads),
            (old, new, [*proof[:place], *proof[place + 1 :]], *heads),
            (old, new, [], *heads),
        ]
    for case in wrong:
        with pytest.raises(Invalid, match="consistency proof"):
            verify_consistency(*case)
