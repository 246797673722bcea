"""At each start, log and catalog are held against each other: which of them is older, and whether they agree.

    1. the head that the catalog kept must be one of this log's     a log set back, or begun anew
    2. entries that the catalog has not seen are done again         one at most after a crash
       more than one were missing                                   a catalog set back
    3. the tally of the rows must be that of the newest entry       rows deleted, renamed, planted
       that carries one

Cost: 2 reads the entries since the last orderly end or start, 3 hashes a line per object and reads back to
the newest entry that carries a tally, which each start, creation and shredding does. Nothing is changed where
something is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.catalog import Catalog
from appliance.catalog.database import REBUILD
from appliance.catalog.entries import UNFILLED, may_repeat, repeat
from appliance.errors import IntegrityError, SetBack
from appliance.inventory import Event, Inventory, Tally, event_of, may_tell, tally_in
from audit.entry import parse_entry
from audit.errors import AuditError
from audit.log import Log

SEEN = "log_seen"
HEAD = "log_head"


MAX_AFTER_CRASH = 1  # the custodian writes each row right after its entry, one at a time


@dataclass(frozen=True, slots=True)
class Reckoned:
    """A catalog that agrees with its log: what lies in the vault, and how many entries were done again."""

    inventory: Inventory
    caught_up: int
    rebuilt: str


def reckon(log: Log, catalog: Catalog) -> Reckoned:
    """Bring the catalog up to its log, and compare; raises SetBack or IntegrityError with nothing changed."""
    _compare_head(log, catalog)
    with catalog.transaction():
        rebuilt = catalog.meta(UNFILLED) or ""
        caught_up = catch_up(log, catalog)
        if caught_up > MAX_AFTER_CRASH and not rebuilt:
            raise SetBack(
                f"catalog.db is older than the log: expected to do {MAX_AFTER_CRASH} entry again at most, as "
                f"after a crash, found {caught_up} that it lacks; put its newest copy back, or {REBUILD}"
            )
        inventory = Inventory.of(catalog.events())
        if inventory.tally != last_tally(log):
            raise IntegrityError(f"catalog.db differs from the log: {_differences(log, catalog)}; {REBUILD}")
        catalog.set_meta(UNFILLED, "")
        keep_head(log, catalog)
    return Reckoned(inventory, caught_up, rebuilt)


def keep_head(log: Log, catalog: Catalog) -> None:
    """Remember how far the log goes now, so that one that is set back is noticed."""
    catalog.set_meta(HEAD, log.tree_head().decode("utf-8"))
    catalog.set_meta(SEEN, str(log.size))


def catch_up(log: Log, catalog: Catalog) -> int:
    """Do what entries say that the catalog has not seen; returns how many it lacked."""
    entries = log.entries(int(catalog.meta(SEEN) or 0))
    return sum(repeat(catalog, parse_entry(entry)) for entry in entries if may_repeat(entry))


def last_tally(log: Log) -> Tally:
    """Return the tally up to the log's end: of the newest entry that carries one, and of what came after."""
    later: list[Event] = []
    tally = Tally()
    for index in reversed(range(log.size)):
        data = log.entry(index)
        if not may_tell(data):
            continue
        entry = parse_entry(data)
        told = tally_in(entry)
        if told is not None:
            tally = told
            break
        event = event_of(entry.kind, entry.context)
        if event is not None:
            later.append(event)
    for event in reversed(later):
        tally = tally.then(event)
    return tally


def _compare_head(log: Log, catalog: Catalog) -> None:
    head, seen = catalog.meta(HEAD), int(catalog.meta(SEEN) or 0)
    try:
        if head is not None:
            log.verify_head(head.encode("utf-8"))
        if seen <= log.size:
            return
        found = f"{log.size} entries"
    except AuditError as other:
        found = f"{log.size} entries that do not begin with those: {other}"
    raise SetBack(
        f"log {log.path} is older than catalog.db: expected at least the {seen} entries that the catalog has "
        f"seen, found {found}; put the log's newest copy back, or go on under a new log with "
        "`appliance restore-log`, which names this one"
    )


def _differences(log: Log, catalog: Catalog) -> str:
    """Name the first difference; reads the whole log, since something is wrong."""
    said = [
        event
        for entry in map(parse_entry, filter(may_tell, log.entries()))
        if (event := event_of(entry.kind, entry.context)) is not None
    ]
    rows = catalog.events()
    lacking, planted = _without(said, rows), _without(rows, said)
    if lacking:
        return f"it lacks {len(lacking)} that the log tells of, first {_told(lacking[0])}"
    if planted:
        return f"it has {len(planted)} that the log tells nothing of, first {_told(planted[0])}"
    return "its rows stand in another order"


def _without(these: Sequence[Event], those: Sequence[Event]) -> list[Event]:
    known = set(those)
    return [event for event in these if event not in known]


def _told(event: Event) -> str:
    return f"{event.kind} {' '.join(str(part) for part in event.about)}"
