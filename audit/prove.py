"""Receipts made by the auditor, from the published folder alone: no daemon and no secret is needed.

Guarantees that what is handed out verifies under the given key: tiles are only a hint, the proof made from
them is checked against the signed root. Source: RFC 6962 section 2.1.1, C2SP tlog-tiles and tlog-proof.
"""

from __future__ import annotations

from audit.checkpoint import TreeHead, verify_tree_head
from audit.entry import Entry
from audit.epoch import read_chain
from audit.errors import AuditError, Invalid
from audit.folder import CHECKPOINT, Folder
from audit.keys import LogKeys
from audit.merkle import inclusion_proof
from audit.note import MAX_NOTE_BYTES, VerifierKey
from audit.receipt import format_receipt, verify_receipt
from audit.store import read_bundle, read_tile
from audit.tiles import HEIGHT, WIDTH, Tile, count_at
from audit.tree import inner_node


def prove(folder: Folder, index: int, key: VerifierKey | LogKeys) -> tuple[bytes, bytes, Entry]:
    """Make the receipt of one published entry; returns receipt, entry bytes, and what the entry says.

    Raises BadSignature, Invalid, Malformed; CouldNotCheck where a file is missing.
    """
    note = folder.read(CHECKPOINT, MAX_NOTE_BYTES)
    keys = read_chain(folder, key).keys
    try:
        head = verify_tree_head(note, keys)
    except AuditError as failure:
        raise type(failure)(f"{folder.path / CHECKPOINT}: {failure}") from failure
    if index >= head.size:
        raise Invalid(
            f"entry {index}: expected a number below {head.size}, the entries that {CHECKPOINT} signs; "
            "newer ones are published within a second"
        )
    entry = read_bundle(folder, _tile(None, index // WIDTH, head.size))[index % WIDTH]
    receipt = format_receipt(index, inclusion_proof(index, head.size, _Tiles(folder, head).subtree), note)
    return receipt, entry, verify_receipt(receipt, entry, keys).entry


class _Tiles:
    """The hashes of one tree head, a tile at a time; a proof touches at most two a level."""

    def __init__(self, folder: Folder, head: TreeHead) -> None:
        self._folder = folder
        self._size = head.size
        self._read: dict[Tile, list[bytes]] = {}

    def subtree(self, height: int, index: int) -> bytes:
        """Root of a complete subtree; raises as `read_tile` does."""
        level, inner = divmod(height, HEIGHT)
        number = index >> HEIGHT - inner
        tile = _tile(level, number, self._size)
        if tile not in self._read:
            self._read[tile] = read_tile(self._folder, tile)
        return inner_node(self._read[tile], inner, index - (number << HEIGHT - inner))


def _tile(level: int | None, number: int, size: int) -> Tile:
    """Name a tile as wide as it is in a tree of this size."""
    return Tile(level, number, min(WIDTH, count_at(size, level) - number * WIDTH))
