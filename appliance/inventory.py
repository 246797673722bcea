"""What the log says lies in the vault, boiled down: how much, a running digest, and the newest of each name.

Guarantees its reader that two inventories of one digest were told the same: every object with its kind, name
and version, every shredding and every vault key, in the same order. The entries that create or shred an
object, begin or end a rotation of the vault's key, and each start, carry the tally up to themselves. So a
catalog can be compared with a log of any length by the newest of these entries alone: a row that was deleted,
renamed, planted or set back gives another digest. Pure.

    digest' = SHA-256( digest || JSON [kind, what the event is about ...] )   from 32 zero bytes
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from appliance.errors import IntegrityError
from audit.entry import JSON, Entry

CREATED = "object-created"
SHREDDED = "object-shredded"
KEY_BEGUN = "vault-key-begun"
KEY_ROTATED = "vault-key-rotated"
STARTED = "started"
TALLY = "inventory"

_ABOUT: Mapping[str, tuple[str, ...]] = {
    CREATED: ("object", "kind", "name", "version"),
    SHREDDED: ("object",),
    KEY_BEGUN: ("vault_recipient",),
    KEY_ROTATED: ("vault_recipient",),
}
EVENTS = tuple(_ABOUT)
_CARRIERS = frozenset({*EVENTS, STARTED})
_MARKS = (*(f'"kind":"{kind}"'.encode("ascii") for kind in EVENTS), f'"{TALLY}":'.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that changed what lies in the vault: an entry's kind and what it is about."""

    kind: str
    about: tuple[str | int, ...]

    def encode(self) -> bytes:
        """Return the one spelling that is hashed."""
        return json.dumps([self.kind, *self.about], separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, slots=True)
class Tally:
    """How many events there were, and the digest over them."""

    count: int = 0
    digest: str = "00" * 32

    def then(self, event: Event) -> Tally:
        """Return the tally after one more event."""
        return Tally(self.count + 1, hashlib.sha256(bytes.fromhex(self.digest) + event.encode()).hexdigest())

    def told(self) -> Mapping[str, JSON]:
        """Return what an entry carries, under `inventory` in its context."""
        return {"count": self.count, "digest": self.digest}


@dataclass(slots=True)
class Inventory:
    """What lies in the vault after the events that were taken."""

    tally: Tally = field(default_factory=Tally)
    vault_recipient: str | None = None
    """The newest vault identity's public half; None while it is the one of the genesis entry."""
    next_recipient: str | None = None
    """That of the identity to which a rotation, begun and not ended, wraps the headers."""
    open_shreddings: int = 0
    """Objects shredded since the newest vault identity was begun: old headers of theirs still open."""
    former_recipients: set[str] = field(default_factory=set)
    """Those of identities that a rotation ended, the one of the genesis entry left out."""
    _newest: dict[tuple[str, str], list[tuple[int, str]]] = field(default_factory=dict)
    _names: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event]) -> Inventory:
        """Take events in the order of their entries."""
        inventory = cls()
        for event in events:
            inventory.take(event)
        return inventory

    def take(self, event: Event) -> None:
        """Take one more event."""
        self.tally = self.tally.then(event)
        if event.kind == CREATED:
            name, kind, called, version = event.about
            key = (str(kind), str(called))
            self._names[str(name)] = key
            self._newest.setdefault(key, []).append((int(version), str(name)))
        elif event.kind == SHREDDED:
            self.open_shreddings += 1
            self._forget(str(event.about[0]))
        elif event.kind == KEY_BEGUN:
            self.next_recipient, self.open_shreddings = str(event.about[0]), 0
        else:
            if self.vault_recipient is not None:
                self.former_recipients.add(self.vault_recipient)
            self.vault_recipient, self.next_recipient = str(event.about[0]), None

    def newest(self, kind: str, name: str) -> str | None:
        """Return the id of the newest object of a name that was not shredded, None where there is none."""
        found = self._newest.get((kind, name))
        return max(found)[1] if found else None

    def _forget(self, object_id: str) -> None:
        key = self._names.pop(object_id, None)
        if key is not None:
            self._newest[key] = [each for each in self._newest[key] if each[1] != object_id]


def event_of(kind: str, context: Mapping[str, JSON]) -> Event | None:
    """Return what an entry changes in the vault, or None; raises IntegrityError where it says not what."""
    names = _ABOUT.get(kind)
    if names is None:
        return None
    about = [value for value in (context.get(name) for name in names) if isinstance(value, str | int)]
    if len(about) != len(names):
        raise IntegrityError(f"log entry {kind}: expected {', '.join(names)} in it, found {sorted(context)}")
    return Event(kind, tuple(about))


def tally_in(entry: Entry) -> Tally | None:
    """Return the tally that an entry carries, None for none."""
    said: Any = entry.context.get(TALLY)
    if entry.kind not in _CARRIERS or not isinstance(said, Mapping):
        return None
    return Tally(int(said["count"]), str(said["digest"]))


def may_tell(entry: bytes) -> bool:
    """Say whether an entry is worth parsing for an event or a tally: a cheap look, and never wrongly no."""
    return any(mark in entry for mark in _MARKS)
