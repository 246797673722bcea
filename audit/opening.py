"""Commitments opened: what a secret value was, once its entry's salt is handed over and a value is claimed.

Guarantees that a claim is called right only if the entry was written with this very value under this name.
The salt of one entry opens no other entry's. Source: docs/formats/audit-log.md, "Secret values".
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from audit.entry import JSON, Entry, commitment_under
from audit.errors import Invalid, Malformed

_FIELD = "commitment"


def commitments(entry: Entry) -> dict[str, str]:
    """Name and commitment (hex) of every secret value in an entry."""
    found: dict[str, str] = {}
    for name, value in entry.context.items():
        if isinstance(value, Mapping) and value.keys() == {_FIELD}:
            found[name] = str(value[_FIELD])
    return found


def verify_claims(entry: Entry, salt: bytes, claims: Mapping[str, str]) -> dict[str, JSON]:
    """Check claimed values, as a person types them; returns each as it was logged.

    A claim may be meant as text or as JSON: `1` is the text "1" or the number 1, and only one of them fits.
    Raises Invalid for a value that is another, Malformed for a name that is no secret of this entry.
    """
    found = commitments(entry)
    opened: dict[str, JSON] = {}
    for name, claim in claims.items():
        if name not in found:
            raise Malformed(
                f"entry {entry.seq}: expected a secret's name, one of {sorted(found)}, found {name[:80]!r}"
            )
        readings = [reading for reading in _readings(claim) if _fits(salt, name, reading, found[name])]
        if not readings:
            raise Invalid(
                f"entry {entry.seq}, {name}: another value was committed to (or the salt is another entry's)"
            )
        opened[name] = readings[0]
    return opened


def _fits(salt: bytes, name: str, value: JSON, expected: str) -> bool:
    try:
        return commitment_under(salt, name, value) == expected
    except Malformed:  # a fraction, say: no entry can hold it
        return False


def _readings(claim: str) -> list[JSON]:
    try:
        return [claim, json.loads(claim)]
    except (ValueError, RecursionError):
        return [claim]
