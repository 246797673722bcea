"""RFC 6962 Merkle trees: hashes, inclusion and consistency proofs; pure values, no files.

Guarantees a verifier that a proof it accepts shows exactly one thing: this leaf at this index of the tree
with this root (inclusion), or this tree being a prefix of that one (consistency). Makers of proofs get their
hashes from a function `subtree(height, index)`: the root of the complete subtree over leaves
[index << height, (index + 1) << height).
Source: RFC 6962 section 2.1; verification after RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from audit.errors import Invalid

Subtree = Callable[[int, int], bytes]

HASH_BYTES = 32
MAX_PROOF_HASHES = 63
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry: SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two children: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes held in memory, 32 bytes each."""
    row = list(leaves)
    while len(row) > 1:
        odd = (
            row[-1:] if len(row) % 2 else []
        )  # an unpaired node rises as it is: RFC 6962's split gives the same
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)] + odd
    return row[0] if row else EMPTY_ROOT


def range_root(begin: int, end: int, subtree: Subtree) -> bytes:
    """Root over leaves [begin, end), where begin is a multiple of a power of two that is >= end - begin."""
    combined: bytes | None = None
    height = 0
    while begin < end:
        if (end - begin) >> height & 1:
            left = subtree(height, (end >> height) - 1)
            combined = left if combined is None else node_hash(left, combined)
            end -= 1 << height
        height += 1
    return EMPTY_ROOT if combined is None else combined


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """Hashes from the leaf's sibling up to the root's child (RFC 6962 section 2.1.1); raises Invalid."""
    if not 0 <= index < size:
        raise Invalid(f"inclusion proof: expected an index below the tree's size {size}, found {index}")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(range_root(begin, middle, subtree))
            begin = middle
    return proof[::-1]


def newest_proofs(first: int, size: int, subtree: Subtree) -> tuple[list[list[bytes]], bytes]:
    """Inclusion proofs of all leaves from `first` to the end of a tree, 0 <= first < size, and its root.

    Row by row: leaves first, then their parents, with the one complete subtree to their left that a proof may
    need. Each proof is a path in the rows that lead to this root, so who compares the root has verified them.
    """
    begin = first & ~1
    row = [subtree(0, index) for index in range(begin, size)]
    proofs: list[list[bytes]] = [[] for _ in range(first, size)]
    height = 0
    while begin + len(row) > 1:
        end = begin + len(row)
        for index, proof in enumerate(proofs, first):
            sibling = index >> height ^ 1
            if sibling < end:
                proof.append(row[sibling - begin])
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)] + row[len(row) & ~1 :]
        begin, height = begin >> 1, height + 1
        if begin & 1:
            begin -= 1
            row.insert(0, subtree(height, begin))
    return proofs, row[0]


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """Hashes that show `old` leaves to be a prefix of `new` (RFC 6962 section 2.1.2); raises Invalid."""
    if not 0 <= old <= new:
        raise Invalid(f"consistency proof: expected an old size from 0 to {new}, found {old}")
    if old == 0:
        return []
    proof: list[bytes] = []
    begin, end = 0, new
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(range_root(middle, end, subtree))
            end = middle
        else:
            proof.append(range_root(begin, middle, subtree))
            begin = middle
    if begin:  # else the old tree is a whole left subtree, and its root is known to who asks
        proof.append(range_root(begin, end, subtree))
    return proof[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Check that `leaf` stands at `index` in the tree of `size` leaves with that root; raises Invalid."""
    if not 0 <= index < size:
        raise Invalid(f"inclusion proof: expected an index below the tree's size {size}, found {index}")
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise Invalid(f"inclusion proof: {len(proof)} hashes are too many for index {index} of {size}")
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise Invalid(f"inclusion proof: {len(proof)} hashes are too few for index {index} of {size}")
    if found != expected_root:
        raise Invalid(
            f"inclusion proof: expected root {expected_root.hex()}, found {found.hex()} "
            f"for index {index} of {size}; the entry, the proof or the head was changed",
        )


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree (old, old_root) is a prefix of (new, new_root); raises Invalid."""
    if not 0 <= old <= new:
        raise Invalid(f"consistency proof: expected an old size from 0 to {new}, found {old}")
    if old in {0, new}:
        expected = EMPTY_ROOT if old == 0 else new_root
        if proof or old_root != expected:
            raise Invalid(
                f"consistency proof: sizes {old} and {new} need no hashes and root {expected.hex()}"
            )
        return
    hashes = list(proof)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    _replay_consistency(old, new, hashes, old_root, new_root)


def _replay_consistency(old: int, new: int, hashes: list[bytes], old_root: bytes, new_root: bytes) -> None:
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    if not hashes:
        raise Invalid(f"consistency proof: expected hashes between sizes {old} and {new}, found none")
    found_old = found_new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise Invalid(f"consistency proof: too many hashes between sizes {old} and {new}")
        if position & 1 or position == last:
            found_old, found_new = node_hash(sibling, found_old), node_hash(sibling, found_new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found_new = node_hash(found_new, sibling)
        position, last = position >> 1, last >> 1
    if last:
        raise Invalid(f"consistency proof: too few hashes between sizes {old} and {new}")
    if found_old != old_root:
        raise Invalid(
            f"consistency proof: expected old root {old_root.hex()}, found {found_old.hex()}: a fork"
        )
    if found_new != new_root:
        raise Invalid(
            f"consistency proof: expected new root {new_root.hex()}, found {found_new.hex()}: a fork"
        )


def _split(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)  # the largest power of two below count
