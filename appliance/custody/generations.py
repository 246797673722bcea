"""Which of the vault's slots counts: the log names it, and the files are only what it names.

    vault, vault-1, vault-2, …     one slot for each change of custody; the first needs no number

Guarantee: at any moment, and after a crash at any moment, the slot in force is whole and opens with its own
secret. A new slot is on the disk, and proved, before an entry names it; the old one dies after that entry.
New shares wait beside the slot in force until each of them was entered once. What no entry names is removed
at the next start. Unlinking keeps a slot from whoever reads the files later, not from who reads the disk's
freed blocks or an older backup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.age import parse_recipient
from appliance.custody.slot import (
    VAULT_SLOT,
    SlotRecord,
    numbered,
    numbers_of,
    read_record,
    remove_slot,
    reseal,
)
from appliance.errors import IntegrityError
from audit.entry import JSON, Entry

CUSTODY_CHANGED = "custody-changed"
CUSTODY_STAGED = "custody-staged"
CUSTODY_ENTRIES = (CUSTODY_CHANGED, CUSTODY_STAGED)


@dataclass(frozen=True, slots=True)
class Standing:
    """The slot in force and its record's digest (hex), and the same of the one that waits for its proof."""

    generation: int
    record: str
    pending: int | None = None
    pending_record: str = ""

    @property
    def slot(self) -> str:
        """Name of the slot in force."""
        return numbered(VAULT_SLOT, self.generation)

    @property
    def pending_slot(self) -> str:
        """Name of the slot that waits, "" where none does."""
        return "" if self.pending is None else numbered(VAULT_SLOT, self.pending)

    @property
    def next(self) -> int:
        """The number of the next slot to be made."""
        return (self.generation if self.pending is None else self.pending) + 1

    def fields(self) -> Mapping[str, JSON]:
        """Return what an entry says; the inverse of `standing_of`."""
        said: dict[str, JSON] = {"generation": self.generation, "custody_record": self.record}
        if self.pending is not None:
            said |= {"pending": self.pending, "pending_record": self.pending_record}
        return said


def standing_of(entry: Entry) -> Standing:
    """Return what the genesis entry, or one of CUSTODY_ENTRIES, says."""
    said: Mapping[str, Any] = entry.context
    return Standing(
        said.get("generation", 0), said["custody_record"], said.get("pending"), said.get("pending_record", "")
    )


def check_record(keys: Path, name: str, digest: str) -> SlotRecord:
    """Return the record of a slot; raises IntegrityError unless it is the one that the log names."""
    record = read_record(keys, name)
    if record.digest != digest:
        raise IntegrityError(
            f"slot {name}: expected the record that the log names, found another: restore {keys} from a "
            "backup"
        )
    return record


def reseal_vault(keys: Path, standing: Standing, keyring: bytearray, recovery: str) -> None:
    """Put a changed keyring into the slots that the log names, the one that waits first; no secret is needed.

    A crash leaves each slot with the former keyring or the new one, whole: repeat it. Raises SpaceExhausted,
    IntegrityError for a record that the log does not name: it could lock the keyring for somebody else.
    """
    offline = parse_recipient(recovery) if recovery else None
    slots = [(standing.slot, standing.record)]
    if standing.pending is not None:
        slots.insert(0, (standing.pending_slot, standing.pending_record))
    records = [(name, check_record(keys, name, digest)) for name, digest in slots]
    for name, record in records:
        reseal(keys, name, record, keyring, offline)


def retire(keys: Path, standing: Standing) -> tuple[str, ...]:
    """Destroy the slots that the log does not name; return their names."""
    gone = tuple(
        numbered(VAULT_SLOT, number)
        for number in numbers_of(keys, VAULT_SLOT)
        if number not in (standing.generation, standing.pending)
    )
    for name in gone:
        remove_slot(keys, name)
    return gone
