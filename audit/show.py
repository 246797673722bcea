"""A plain listing of a log's entries for people, one line each.

Guarantees that no text from an entry reaches the terminal unescaped. Does not verify: `audit.verify` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from audit.entry import parse_entry
from audit.errors import Malformed
from audit.folder import Folder
from audit.store import read_bundle
from audit.tiles import WIDTH, Tile


def unverified_entries(folder: Folder, start: int = 0) -> Iterator[bytes]:
    """Yield published entries from `start` on, as written; raises CouldNotCheck, Malformed."""
    number = start // WIDTH
    skip = start % WIDTH
    while tile := _widest(folder, number):
        yield from read_bundle(folder, tile)[skip:]
        number, skip = number + 1, 0


def show_line(unverified_entry: bytes) -> str:
    """Write one entry as `seq time kind principal action resource decision`; raises Malformed."""
    entry = parse_entry(unverified_entry)
    outcome = "-"
    if entry.decision is not None:
        outcome = "allow" if entry.decision.allow else "DENY"
    texts = (entry.kind, entry.principal, entry.action, entry.resource)
    return f"{entry.seq:>6}  {entry.time}  {outcome:<5}  " + "  ".join(
        json.dumps(text)[1:-1] for text in texts
    )


def _widest(folder: Folder, number: int) -> Tile | None:
    """Find the fullest bundle of a number, or None past the end."""
    full = Tile(None, number)
    if folder.is_present(full.path):
        return full
    widths: list[int] = []
    for entry in folder.names(full.partials_path):
        try:
            widths.append(Tile.parse(f"{full.partials_path}/{entry.name}").width)
        except Malformed:
            continue  # a stray file is the verifier's business
    return Tile(None, number, max(widths)) if widths else None
