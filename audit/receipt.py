"""Receipts: proof, checkable offline and alone, that one entry stands in the log.

Guarantees who verifies one that the log's key signed a tree head whose tree holds exactly this entry at
exactly this index. Says nothing about what came after that head. Source: C2SP tlog-proof, version line @v1.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from audit.checkpoint import TreeHead, parse_decimal, verify_tree_head
from audit.entry import Entry, parse_entry
from audit.errors import Invalid, Malformed
from audit.keys import LogKeys
from audit.merkle import HASH_BYTES, MAX_PROOF_HASHES, leaf_hash, verify_inclusion
from audit.note import MAX_NOTE_BYTES, VerifierKey, decode_base64

_VERSION = "c2sp.org/tlog-proof@v1"
_MAX_EXTRA_BYTES = 16 * 1024
# One base64 hash a line, the extra line, the first two lines: a little over what a correct receipt can need.
MAX_RECEIPT_BYTES = MAX_NOTE_BYTES + 64 * 45 + 2 * _MAX_EXTRA_BYTES


@dataclass(frozen=True, slots=True)
class Receipt:
    """An unverified receipt: index, Merkle path from the leaf's sibling upwards, and the signed tree head."""

    index: int
    proof: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt showed: this entry at this index under this head."""

    index: int
    head: TreeHead
    entry: Entry


def format_receipt(index: int, proof: Sequence[bytes], note: bytes, extra: bytes | None = None) -> bytes:
    """Write a `.tlog-proof`; `note` is the signed tree head, byte for byte."""
    lines = [_VERSION]
    if extra is not None:
        lines.append(f"extra {base64.b64encode(extra).decode()}")
    lines += [f"index {index}", *(base64.b64encode(node).decode() for node in proof), "", ""]
    return "\n".join(lines).encode() + note


def parse_receipt(data: bytes) -> Receipt:
    """Read a `.tlog-proof`; the inverse of `format_receipt`; raises Malformed. The note stays unverified."""
    if len(data) > MAX_RECEIPT_BYTES:
        raise Malformed(f"receipt: expected at most {MAX_RECEIPT_BYTES} bytes, found {len(data)}")
    head, gap, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as failure:
        raise Malformed("receipt: expected ASCII before the tree head") from failure
    if not gap or lines.pop(0) != _VERSION:
        raise Malformed(f"receipt: expected {_VERSION!r}, proof lines, an empty line and a tree head")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "), "receipt extra")
    if not lines or not lines[0].startswith("index "):
        raise Malformed("receipt: expected a line 'index N'")
    index = parse_decimal(lines.pop(0).removeprefix("index "), "receipt index")
    if len(lines) > MAX_PROOF_HASHES:
        raise Malformed(f"receipt: expected at most {MAX_PROOF_HASHES} proof lines, found {len(lines)}")
    proof = tuple(decode_base64(line, "receipt proof") for line in lines)
    if any(len(node) != HASH_BYTES for node in proof):
        raise Malformed(f"receipt proof: expected hashes of {HASH_BYTES} bytes")
    return Receipt(index, proof, note, extra)


def verify_receipt(data: bytes, entry: bytes, keys: VerifierKey | LogKeys) -> VerifiedReceipt:
    """Check a receipt against the entry beside it and the log's key.

    1. the receipt is well formed; 2. the log's key signed its tree head, which names that log; 3. the entry's
    hash leads along the proof to the head's root; 4. the entry is well formed and says the same index.
    Still owed by the caller: that the head belongs to the log as it is now (`audit.verify.verify_log`).
    Raises Malformed, BadSignature, Invalid.
    """
    receipt = parse_receipt(data)
    head = verify_tree_head(receipt.note, keys)
    verify_inclusion(leaf_hash(entry), receipt.index, head.size, receipt.proof, head.root)
    parsed = parse_entry(entry)
    if parsed.seq != receipt.index:
        raise Invalid(
            f"receipt: expected entry {receipt.index}, found an entry that calls itself {parsed.seq}"
        )
    return VerifiedReceipt(receipt.index, head, parsed)
