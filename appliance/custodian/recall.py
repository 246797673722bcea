"""The last thing the log said about custody, the counter and a breach, found again at each start.

The catalog remembers how far the log was read and where the last such entry stands, so that a start reads on
from there; what counts is the entry itself. A catalog that was set back only makes the start read more, one
that knows more than the log has is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.catalog import Catalog
from appliance.custody.generations import CUSTODY_ENTRIES
from audit.entry import Entry, parse_entry
from audit.log import Log

COUNTER_RAISED = "counter-raised"
BREACH, UNSEALED = "breach", "unsealed"
_CUSTODY, _COUNTER = "custody", "counter"
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(CUSTODY_ENTRIES, _CUSTODY),
    COUNTER_RAISED: _COUNTER,
    **dict.fromkeys((BREACH, UNSEALED), BREACH),
}
_SEEN, _LAST = "recall_seen", "recall_last_"


@dataclass(frozen=True, slots=True)
class Recalled:
    """The last entry about custody (where none, the genesis entry), about the counter, and a breach.

    `breach` is the entry of a breach of isolation after which the vault was not unsealed.
    """

    custody: Entry
    counter: Entry | None
    breach: int | None
    last_breach: int
    seen: int

    def remember(self, catalog: Catalog) -> None:
        """Have the next start read on from here; only a start that succeeded changes the catalog."""
        catalog.set_meta(_LAST + _CUSTODY, str(self.custody.seq))
        catalog.set_meta(_LAST + _COUNTER, str(self.counter.seq if self.counter is not None else 0))
        catalog.set_meta(_LAST + BREACH, str(self.last_breach))
        catalog.set_meta(_SEEN, str(self.seen))


def recall(log: Log, catalog: Catalog) -> Recalled:
    """Read what the log has beyond what the catalog remembers; changes nothing."""
    seen = int(catalog.meta(_SEEN) or 0)
    places = {what: int(catalog.meta(_LAST + what) or 0) for what in (_CUSTODY, _COUNTER, BREACH)}
    if max(seen, *places.values()) > log.size:
        seen, places = 0, dict.fromkeys(places, 0)
    for index in range(seen, log.size):
        kind = parse_entry(log.entry(index)).kind
        if kind in _KINDS:
            places[_KINDS[kind]] = index
    found = {what: parse_entry(log.entry(index)) for what, index in places.items()}
    counter = found[_COUNTER] if found[_COUNTER].seq else None
    breach = places[BREACH] if found[BREACH].kind == BREACH else None
    return Recalled(found[_CUSTODY], counter, breach, places[BREACH], log.size)
