"""Recovery: from what lies in a log's folder back to the tree in memory, at every start.

Guarantees the log that goes on from here that every tree head ever left in the folder lies on the history it
continues: else it does not start. Reads the write-ahead file and the tree's edge, never the whole log.
Source: docs/formats/audit-log.md, "Recovery".
"""

from __future__ import annotations

from dataclasses import dataclass

from audit.checkpoint import TreeHead, verify_tree_head
from audit.epoch import Chain
from audit.errors import AuditError, CouldNotCheck, Invalid
from audit.folder import CHECKPOINT, WAL, Folder
from audit.keys import LogKeys
from audit.note import MAX_NOTE_BYTES
from audit.store import Store, read_tile
from audit.tree import Tree
from audit.wal import MAX_BYTES, Replay, parse_write_ahead


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening found: entries replayed from the write-ahead file, bytes of a torn write dropped."""

    replayed_entries: int
    torn_bytes: int


def recover(folder: Folder, chain: Chain) -> tuple[Store, Replay]:
    """Rebuild tiles and tree from the write-ahead file, holding every signed head against them.

    Raises CouldNotCheck, Malformed, BadSignature, Invalid for what no crash leaves behind.
    """
    data = folder.read_if_present(WAL, MAX_BYTES)
    if data is None:
        raise CouldNotCheck(f"{folder.path / WAL}: expected a log's write-ahead file, found none: not a log")
    replay = parse_write_ahead(data, chain.keys)
    store = Store(folder, Tree.from_edge(replay.base.size, lambda tile: read_tile(folder, tile)))
    closings = [head for head in chain.closings if head.size >= replay.base.size]
    heads = [replay.base, *replay.heads, *closings, *_published(folder, chain.keys)]
    _demand_within(heads, replay, folder)
    expected: dict[int, set[bytes]] = {}
    for head in heads:
        expected.setdefault(head.size, set()).add(head.root)
    _demand_roots(store, expected, folder)
    for entry in replay.entries:
        store.append(entry)
        _demand_roots(store, expected, folder)
    return store, replay


def _published(folder: Folder, keys: LogKeys) -> list[TreeHead]:
    note = folder.read_if_present(CHECKPOINT, MAX_NOTE_BYTES)
    if note is None:
        return []
    try:
        return [verify_tree_head(note, keys)]
    except AuditError as failure:
        raise type(failure)(f"{folder.path / CHECKPOINT}: {failure}; restore a copy") from failure


def _demand_within(heads: list[TreeHead], replay: Replay, folder: Folder) -> None:
    begin, end = replay.base.size, replay.base.size + len(replay.entries)
    for head in heads:
        if not begin <= head.size <= end:
            raise Invalid(
                f"{folder.path}: the write-ahead file holds entries {begin} to {end}, but a signed head says "
                f"{head.size}: its end was cut off, or a part of the folder was set back; restore a copy",
            )


def _demand_roots(store: Store, expected: dict[int, set[bytes]], folder: Folder) -> None:
    tree = store.tree
    for root in expected.get(tree.size, ()):
        if tree.root() != root:
            raise Invalid(
                f"{folder.path}: expected root {root.hex()} over {tree.size} entries, as signed, found "
                f"{tree.root().hex()}; tiles or write-ahead file were changed; restore a copy",
            )
