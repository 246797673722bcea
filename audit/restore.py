"""The link from a log to the one before it: what was left of an appliance that came back from a backup.

Guarantees a reader that the older log is named by its key and by a tree head that this key signed, so that
whoever holds a later head of the older log can show what the restore lost. A restored appliance never goes on
with the old log: entries that the backup does not have may have been signed, and would be contradicted.
Source: docs/formats/audit-log.md, "Restore".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audit.checkpoint import MAX_SIZE, TreeHead, verify_tree_head
from audit.entry import JSON, Entry
from audit.epoch import read_chain
from audit.errors import Malformed
from audit.folder import CHECKPOINT, Folder
from audit.keys import LogKeys
from audit.note import MAX_NOTE_BYTES, VerifierKey

CONTINUES = "continues"
_FIELDS = {"origin", "size", "root", "vkey"}


@dataclass(frozen=True, slots=True)
class Continued:
    """The older log: its last head that is known, and its first public key."""

    head: TreeHead
    vkey: VerifierKey

    @property
    def context(self) -> Mapping[str, JSON]:
        """What the first entry of the new log says of it, under `continues` in its context."""
        head = self.head
        return {"origin": head.origin, "size": head.size, "root": head.root.hex(), "vkey": self.vkey.text}


def last_head(directory: Path, key: VerifierKey) -> Continued:
    """Read what a folder's published head says of an older log; raises what `verify_tree_head` raises.

    The entries are not looked at: verify the folder beforehand, where it is more than a head.
    """
    with Folder(directory) as folder:
        note = folder.read(CHECKPOINT, MAX_NOTE_BYTES)
        return Continued(verify_tree_head(note, read_chain(folder, LogKeys.of(key)).keys), key)


def continued_by(entry: Entry) -> Continued | None:
    """Return the older log that a log's first entry names, or None; raises Malformed."""
    said = entry.context.get(CONTINUES)
    if said is None:
        return None
    if isinstance(said, Mapping) and said.keys() == _FIELDS:
        origin, size, root, vkey = (said[name] for name in ("origin", "size", "root", "vkey"))
        texts = isinstance(origin, str) and isinstance(root, str) and isinstance(vkey, str)
        if texts and isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= MAX_SIZE:
            key = VerifierKey.parse(str(vkey))
            head = TreeHead(str(origin), size, _root(str(root)))
            if key.name == head.origin:
                return Continued(head, key)
    raise Malformed(
        f"entry {entry.seq}: expected {CONTINUES} with {sorted(_FIELDS)} of one log, found {str(said)[:120]}"
    )


def _root(text: str) -> bytes:
    if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise Malformed(f"{CONTINUES}: expected a root of 64 hex digits, found {text[:80]!r}")
    return bytes.fromhex(text)
