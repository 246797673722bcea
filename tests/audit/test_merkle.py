from __future__ import annotations

from hashlib import sha256

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import Invalid
from audit.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    range_root,
    root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"%d" % i) for i in range(70)]


def definition(leaves):
    """RFC 6962 section 2.1, word for word and slow."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + definition(leaves[:k]) + definition(leaves[k:])).digest()


def subtree(height, index):
    return definition(LEAVES[index << height : (index + 1) << height])


def test_roots_equal_the_rfcs_definition_and_an_independent_library():
    other = pymerkle.InmemoryTree(algorithm="sha256")
    for size in range(len(LEAVES) + 1):
        assert root(LEAVES[:size]) == definition(LEAVES[:size]) == range_root(0, size, subtree)
        if size:
            other.append_entry(b"%d" % (size - 1))
            assert root(LEAVES[:size]) == other.get_root(size)


def test_roots_equal_the_rfcs_published_example():
    # The eight leaves and roots that the first RFC 6962 implementations were tested with.
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    leaves = [leaf_hash(bytes.fromhex(text)) for text in inputs]
    assert root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_every_inclusion_proof_verifies_and_no_other_index_or_size_does():
    for size in range(1, 34):
        head = root(LEAVES[:size])
        for index in range(size):
            proof = inclusion_proof(index, size, subtree)
            verify_inclusion(LEAVES[index], index, size, proof, head)
            with pytest.raises(Invalid, match="inclusion proof"):
                verify_inclusion(LEAVES[(index + 1) % 70], index, size, proof, head)
            for wrong in {index - 1, index + 1, size, size + 1} - {index}:
                with pytest.raises(Invalid, match="inclusion proof"):
                    verify_inclusion(LEAVES[index], wrong, size, proof, head)


@pytest.mark.parametrize(("index", "size"), [(4, 4), (5, 4), (-1, 4), (0, 0)])
def test_an_index_outside_the_tree_is_refused_by_maker_and_verifier(index, size):
    with pytest.raises(Invalid, match=f"below the tree's size {size}, found {index}"):
        inclusion_proof(index, size, subtree)
    with pytest.raises(Invalid, match=f"below the tree's size {size}, found {index}"):
        verify_inclusion(LEAVES[0], index, size, [], LEAVES[0])


def test_a_proof_too_long_or_too_short_is_refused():
    head = root(LEAVES[:8])
    proof = inclusion_proof(3, 8, subtree)
    with pytest.raises(Invalid, match="too few"):
        verify_inclusion(LEAVES[3], 3, 8, proof[:-1], head)
    with pytest.raises(Invalid, match="too many"):
        verify_inclusion(LEAVES[3], 3, 8, [*proof, bytes(32)], head)


def test_every_consistency_proof_verifies_and_no_shorter_or_longer_one_does():
    for new in range(34):
        for old in range(new + 1):
            proof = consistency_proof(old, new, subtree)
            heads = root(LEAVES[:old]), root(LEAVES[:new])
            verify_consistency(old, new, proof, *heads)
            with pytest.raises(Invalid, match="consistency proof"):
                verify_consistency(old, new, [*proof, bytes(32)], *heads)
            if proof:
                with pytest.raises(Invalid, match="consistency proof"):
                    verify_consistency(old, new, proof[:-1], *heads)


@given(st.integers(1, 33), st.integers(0, 33), st.integers(0, 5), st.integers(0, 255))
def test_a_changed_hash_in_a_consistency_proof_is_noticed(old, more, place, bit):
    new = old + more
    proof = consistency_proof(old, new, subtree)
    if not proof:
        proof = [bytes(32)]
    else:
        changed = bytearray(proof[place % len(proof)])
        changed[bit // 8] ^= 1 << bit % 8
        proof[place % len(proof)] = bytes(changed)
    with pytest.raises(Invalid, match="consistency proof"):
        verify_consistency(old, new, proof, root(LEAVES[:old]), root(LEAVES[:new]))


def test_a_fork_is_named_on_the_side_where_it_is():
    proof = consistency_proof(6, 11, subtree)
    heads = root(LEAVES[:6]), root(LEAVES[:11])
    with pytest.raises(Invalid, match=r"expected old root .* a fork"):
        verify_consistency(6, 11, proof, bytes(32), heads[1])
    with pytest.raises(Invalid, match=r"expected new root .* a fork"):
        verify_consistency(6, 11, proof, heads[0], bytes(32))


def test_a_consistency_proof_without_hashes_is_refused_between_different_trees():
    with pytest.raises(Invalid, match="found none"):
        verify_consistency(3, 5, [], bytes(32), bytes(32))


def test_sizes_that_need_no_proof_still_need_the_right_root():
    verify_consistency(0, 5, [], EMPTY_ROOT, bytes(32))
    with pytest.raises(Invalid, match="need no hashes"):
        verify_consistency(0, 5, [], bytes(32), bytes(32))
    with pytest.raises(Invalid, match="need no hashes"):
        verify_consistency(5, 5, [], bytes(32), LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(5, 4), (-1, 4)])
def test_a_tree_cannot_shrink(old, new):
    with pytest.raises(Invalid, match=f"from 0 to {new}, found {old}"):
        consistency_proof(old, new, subtree)
    with pytest.raises(Invalid, match=f"from 0 to {new}, found {old}"):
        verify_consistency(old, new, [], bytes(32), bytes(32))
