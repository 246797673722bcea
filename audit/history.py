"""What a log's past shows: receipts and heads of any size that it had, made from the tree as it stands.

Guarantees that nothing made here contradicts the tree: tiles come from disk, so each proof is verified before
it is handed out, and a head is believed only if the log's key of its time signed it over this very history.
Source: RFC 6962 section 2.1; docs/formats/audit-log.md, "Witnesses".
"""

from __future__ import annotations

from audit.checkpoint import TreeHead, verify_tree_head
from audit.errors import AuditError, Invalid
from audit.folder import WITNESSED, Folder
from audit.keys import LogKeys
from audit.merkle import inclusion_proof, leaf_hash, range_root, verify_inclusion
from audit.note import MAX_NOTE_BYTES
from audit.receipt import format_receipt
from audit.store import Store


def make_receipt(store: Store, index: int, head: TreeHead, note: bytes) -> bytes:
    """Make a receipt for an entry under a head of this tree; raises Invalid for a damaged tile."""
    proof = inclusion_proof(index, head.size, store.subtree)
    verify_inclusion(leaf_hash(store.entry(index)), index, head.size, proof, head.root)
    return format_receipt(index, proof, note)


def verify_own_head(note: bytes, keys: LogKeys, store: Store) -> TreeHead:
    """Return the head in a note that this log signed over its own history.

    Raises Malformed, BadSignature; Invalid for a head of a longer log or of another history.
    """
    head = verify_tree_head(note, keys)
    if head.size > store.tree.size:
        raise Invalid(
            f"tree head: expected one of at most {store.tree.size} entries, found one of {head.size} that "
            "this log signed: it was set back"
        )
    found = range_root(0, head.size, store.subtree)
    if found != head.root:
        raise Invalid(
            f"tree head: expected root {found.hex()} over {head.size} entries, found {head.root.hex()}, "
            "signed by this log's key: two histories, keep both as evidence"
        )
    return head


def read_witnessed(folder: Folder, keys: LogKeys, store: Store) -> bytes | None:
    """Read the head that witnesses cosigned last, None where there is none; raises as `verify_own_head`."""
    note = folder.read_if_present(WITNESSED, MAX_NOTE_BYTES)
    if note is None:
        return None
    try:
        verify_own_head(note, keys, store)
    except AuditError as failure:
        raise type(failure)(f"{folder.path / WITNESSED}: {failure}; restore a copy") from failure
    return note


def write_witnessed(folder: Folder, note: bytes) -> None:
    """Put a cosigned head in its place, durable when this returns; raises OSError."""
    folder.replace(WITNESSED, note)
    folder.sync()
