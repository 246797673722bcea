"""A plain listing of a log's entries for people, one line each.

Guarantees that no text from an entry reaches the terminal unescaped. Does not verify: `audit.verify` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from audit.entry import Entry, parse_entry
from audit.errors import Malformed
from audit.filter import text_of
from audit.folder import Folder
from audit.store import read_bundle
from audit.tiles import WIDTH, Tile


def unverified_entries(folder: Folder, start: int = 0) -> Iterator[tuple[bytes, Entry]]:
    """Yield published entries from `start` on, as written and as parsed; raises CouldNotCheck, Malformed."""
    number = start // WIDTH
    skip = start % WIDTH
    while tile := _widest(folder, number):
        for data in read_bundle(folder, tile)[skip:]:
            yield data, parse_entry(data)
        number, skip = number + 1, 0


def show_line(entry: Entry) -> str:
    """Write one entry as `seq time outcome kind principal action resource`, then the object's name."""
    outcome = "-"
    if entry.decision is not None:
        outcome = "allow" if entry.decision.allow else "DENY"
    texts = [entry.kind, entry.principal, entry.action, entry.resource]
    if name := text_of(entry.context, "object_name"):
        texts.append(f"({name})")
    return f"{entry.seq:>6}  {entry.time}  {outcome:<5}  " + "  ".join(show_text(text) for text in texts)


def show_text(text: str) -> str:
    """Write a text as JSON would inside its quotes: ASCII, nothing that steers a terminal."""
    return json.dumps(text)[1:-1]


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
