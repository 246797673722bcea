"""The last thing the log said about custody, the counter and a breach, found again at each start.

Guarantees that it is the log's own last word: the ledger gathers where it stands while it reads the log at
the start, and nothing but the log is asked. In a damaged log an entry that cannot be read may have been a
breach, and is taken for one.
KNOWN: such an entry may have changed custody, too. The slot of before is gone then, and the start ends with
that; it goes on only for somebody who puts the old slot back as well, and destroys nothing meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.custody.generations import CUSTODY_ENTRIES
from appliance.ledger import BREACH, COUNTER_RAISED, UNSEALED, Ledger
from audit.entry import Entry, parse_entry
from audit.log import Log


@dataclass(frozen=True, slots=True)
class Recalled:
    """The last entry about custody (where none, the genesis entry), about the counter, and a breach.

    `breach` is the entry of a breach of isolation after which the vault was not unsealed.
    """

    custody: Entry
    counter: Entry | None
    breach: int | None


def recall(log: Log, ledger: Ledger) -> Recalled:
    """Read the newest entries of these kinds; changes nothing."""
    custody = max(0, *(ledger.newest(kind) for kind in CUSTODY_ENTRIES))
    counter = ledger.newest(COUNTER_RAISED)
    breach = max(ledger.newest(BREACH), ledger.last_unreadable)
    return Recalled(
        parse_entry(log.entry(custody)),
        parse_entry(log.entry(counter)) if counter >= 0 else None,
        breach if breach > ledger.newest(UNSEALED) else None,
    )
