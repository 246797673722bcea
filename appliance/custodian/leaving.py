"""The egress budget at work: what may still leave, what left, and the rows that repeat it for `status`.

Guarantees that nothing leaves unless the log says so first: `charge` is durable before the first byte. What
is counted comes from the log's entries (`appliance.ledger`), by the log's own time (`appliance.egress`); the
catalog repeats it, is compared at each use, and at each start the log wins. Text is counted as the bytes that
were asked for, since a client may hang up at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from appliance.catalog.entries import CHARGED
from appliance.custodian.core import Core
from appliance.egress import CONTENTS, DAY_S, Used, room_at, used
from appliance.errors import PolicyRefused
from appliance.gate import Lack
from audit.entry import JSON, format_time

RECOUNTED: Final = "egress-recounted"
DIFFERS: Final = "egress-differs-from-log"


def facts(core: Core, content: str, recipient: str, size_bytes: int) -> dict[str, JSON]:
    """Return what the rules may ask about something that is to leave."""
    so_far = _used(core, content, recipient)
    return {
        "content": content,
        "bytes": size_bytes,
        "exported_bytes": so_far.size_bytes,
        "exported_count": so_far.count,
        "recipient_bytes": so_far.recipient_bytes,
        "recipient_count": so_far.recipient_count,
    }


def lacks(core: Core, content: str, recipient: str, size_bytes: int) -> tuple[Lack, ...]:
    """Return which limits something would go beyond, and when there will be room; raises IntegrityError."""
    if core.catalog.charges() != told_by_log(core):
        return (Lack(DIFFERS, "catalog.db was changed: restart the daemon, which counts anew"),)
    beyond = _used(core, content, recipient).beyond(core.ledger.limits.budgets[content], size_bytes)
    if not beyond:
        return ()
    budgets, charges = core.ledger.limits.budgets, core.ledger.charges
    room = room_at(budgets, charges, content, recipient, size_bytes, _now_s(core))
    step = "it is more than the budget allows in any period: `appliance status` shows the limits"
    if room is not None:
        step = f"there will be room after {core.ledger.clock.moment(room)}, by the log's own time"
    return tuple(Lack(f"egress-budget:{content}-{name}", step) for name in beyond)


def demand_room(core: Core, content: str, recipient: str, size_bytes: int, job: str) -> None:
    """Log and raise PolicyRefused where the exact size, known only now, does not fit."""
    missing = lacks(core, content, recipient, size_bytes)
    if not missing:
        return
    reasons = [lack.reason for lack in missing]
    told: dict[str, JSON] = {"job": job, "bytes": size_bytes, "reasons": reasons}
    core.gate.outcome("egress-refused", "Custodian:custodian", "export", f"JobRecord:{job}", told)
    raise PolicyRefused(f"{size_bytes} bytes may not leave: {', '.join(reasons)}; {missing[0].next_step}")


def charge(
    core: Core, content: str, recipient: str, size_bytes: int, *, person: str, job: str, request: str = ""
) -> None:
    """Count something before its first byte leaves, in the log and then in the catalog."""
    said: dict[str, JSON] = {"content": content, "recipient": recipient, "bytes": size_bytes, "job": job}
    if request:
        said["request"] = request
    committed = core.gate.outcome(CHARGED, f"Person:{person}", "leave", f"JobRecord:{job}", said)
    core.catalog.charge(committed.index, content, recipient, size_bytes)


def told_by_log(core: Core) -> tuple[tuple[int, str, str, int], ...]:
    """Return the catalog's rows as the log has them; raises IntegrityError where the log is damaged."""
    charges = core.ledger.charges
    return tuple((each.index, each.content, each.recipient, each.size_bytes) for each in charges)


def recount(core: Core) -> bool:
    """Compare the catalog's rows with the log's at a start, and take the log's where they differ."""
    if core.ledger.damage or core.catalog.charges() == told_by_log(core):
        return False
    core.catalog.recharge(told_by_log(core))
    said: Mapping[str, JSON] = {"charges": len(told_by_log(core))}
    core.gate.outcome(RECOUNTED, "Custodian:custodian", "start", f"Appliance:{core.facts.origin}", said)
    return True


def standing(core: Core) -> list[dict[str, str | int]]:
    """Return how far each budget is used, as the interface's type Budget; empty where it is not known."""
    if core.ledger.damage:
        return []
    rows: list[dict[str, str | int]] = []
    for content in CONTENTS:
        so_far, limits = _used(core, content, ""), core.ledger.limits.budgets[content]
        rows.append(
            {
                "content": content,
                "bytes": so_far.size_bytes,
                "count": so_far.count,
                "limit_bytes": limits["bytes"],
                "limit_count": limits["count"],
                "days": core.ledger.limits.budgets["period"]["days"],
            }
        )
    return rows


def _used(core: Core, content: str, recipient: str) -> Used:
    since_s = _now_s(core) - core.ledger.limits.budgets["period"]["days"] * DAY_S
    return used(core.ledger.charges, content, recipient, since_s)


def _now_s(core: Core) -> float:
    """Return the log's second of an entry that would be made now: a clock that was set back adds nothing."""
    clock = core.ledger.clock
    return clock.seconds + clock.ahead_s(format_time(core.clock()))
