"""The vault's own list of objects, as `appliance objects list --json` prints it.

Guarantees that each object of a parsed list stands in it once and completely. The list comes from whoever
runs the appliance and proves nothing: it is one side of a comparison, the log is the other.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from audit.errors import Malformed

# Tuning: about 400,000 objects; a list that long is gigabytes of Python otherwise.
MAX_LISTING_BYTES = 256 * 1024 * 1024
_ID = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("id", "kind", "name", "sha256", "state", "job", "created")
_NUMBERS = ("version", "size_bytes", "log_index")
_LISTS = ("parents", "compartments")
_FIELDS = {*_TEXTS, *_NUMBERS, *_LISTS}


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as the vault's catalog has it; `log_index` names the entry that created it."""

    id: str
    kind: str
    name: str
    version: int
    size_bytes: int
    sha256: str
    parents: tuple[str, ...]
    compartments: tuple[str, ...]
    state: str
    job: str
    log_index: int
    created: str


def parse_listing(data: bytes) -> dict[str, Listed]:
    """Read a list of objects; returns them by id; raises Malformed."""
    if len(data) > MAX_LISTING_BYTES:
        raise Malformed(f"list of objects: expected at most {MAX_LISTING_BYTES} bytes, found {len(data)}")
    try:
        rows = json.loads(data)
    except (ValueError, RecursionError) as failure:
        raise Malformed(f"list of objects: expected JSON, found {data[:60]!r}") from failure
    if not isinstance(rows, list):
        raise Malformed("list of objects: expected an array, as `appliance objects list --json` prints it")
    found: dict[str, Listed] = {}
    for row in rows:
        item = _parse_row(row)
        if item.id in found:
            raise Malformed(f"list of objects: {item.id} stands in it twice")
        found[item.id] = item
    return found


def _parse_row(row: object) -> Listed:
    if not isinstance(row, dict) or row.keys() != _FIELDS:
        raise Malformed(f"list of objects: expected the fields {sorted(_FIELDS)}, found {str(row)[:120]!r}")
    lists = {name: row[name] for name in _LISTS}
    sound = (
        all(isinstance(row[name], str) for name in _TEXTS)
        and all(type(row[name]) is int and row[name] >= 0 for name in _NUMBERS)
        and all(isinstance(found, list) for found in lists.values())
        and all(isinstance(text, str) for found in lists.values() for text in found)
        and _ID.fullmatch(row["id"])
    )
    if not sound:
        raise Malformed(f"list of objects: expected texts, numbers and an id, found {str(row)[:120]!r}")
    return Listed(**{**row, **{name: tuple(found) for name, found in lists.items()}})
