"""What `status` shows beside the state of keys and log: room on the disk, and what was refused last.

Both are found out anew at each question; a damaged log shortens the list of refusals and hides nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from appliance.custodian.core import Core
from appliance.strictjson import JSON
from audit.entry import Entry, parse_entry
from audit.errors import AuditError

LATEST = 3
_LOOK_BACK = 512  # entries; `python -m audit report` lists older ones


def disk(core: Core) -> dict[str, JSON]:
    """Return the room of the file system that the home lies on, in bytes: what is free for us, and all."""
    found = os.statvfs(core.home.root)
    return {"free_bytes": found.f_bavail * found.f_frsize, "total_bytes": found.f_blocks * found.f_frsize}


def refusals(core: Core) -> list[dict[str, JSON]]:
    """Return the newest refusals, newest first, as the interface's type Refusal."""
    told: list[dict[str, JSON]] = []
    for entry in _backwards(core):
        decided = entry.decision
        if decided is None or decided.allow:
            continue
        told.append(
            {
                "index": entry.seq,
                "time": entry.time,
                "principal": entry.principal,
                "action": entry.action,
                "resource": str(entry.context.get("object_name", entry.resource)),
                "reasons": list(decided.reasons or decided.policies),
            }
        )
        if len(told) == LATEST:
            break
    return told


def _backwards(core: Core) -> Iterator[Entry]:
    newest = core.log.size - 1
    for index in range(newest, max(newest - _LOOK_BACK, -1), -1):
        try:
            yield parse_entry(core.log.entry(index))
        except AuditError:
            return
