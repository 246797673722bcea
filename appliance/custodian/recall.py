"""The last thing the log said about custody and about the counter, found again at each start.

The catalog remembers how far the log was read and where the last such entry stands, so that a start reads on
from there; what counts is the entry itself. A catalog that was set back only makes the start read more, one
that knows more than the log has is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.catalog import Catalog
from appliance.custody.generations import CUSTODY_ENTRIES
from audit.entry import Entry, parse_entry
from audit.log import Log

COUNTER_RAISED = "counter-raised"
CUSTODY, COUNTER = "custody", "counter"
_KINDS: Mapping[str, str] = {**dict.fromkeys(CUSTODY_ENTRIES, CUSTODY), COUNTER_RAISED: COUNTER}
_SEEN, _LAST = "recall_seen", "recall_last_"


def recall(log: Log, catalog: Catalog) -> Mapping[str, Entry]:
    """Return the last entry about each of CUSTODY (where none, the genesis entry) and COUNTER."""
    seen = int(catalog.meta(_SEEN) or 0)
    places = {what: int(catalog.meta(_LAST + what) or 0) for what in (CUSTODY, COUNTER)}
    if max(seen, *places.values()) > log.size:
        seen, places = 0, dict.fromkeys(places, 0)
    for index in range(seen, log.size):
        kind = parse_entry(log.entry(index)).kind
        if kind in _KINDS:
            places[_KINDS[kind]] = index
    for what, index in places.items():
        catalog.set_meta(_LAST + what, str(index))
    catalog.set_meta(_SEEN, str(log.size))
    found = {what: parse_entry(log.entry(index)) for what, index in places.items()}
    return {what: entry for what, entry in found.items() if entry.seq or what == CUSTODY}
