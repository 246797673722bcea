"""What `doctor` finds, as a signed entry: at each start, and every hour while the appliance runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import structlog

from appliance.custodian.core import Core
from appliance.isolation import Check, Status, isolated
from appliance.isolation.abilities import abilities
from appliance.isolation.host import examine
from audit.entry import JSON
from audit.errors import AuditError

EXAMINED = "examined"
EVERY_S = 3600.0


async def keep_examining(core: Core) -> None:
    """Examine the host each hour until cancelled; the first time is the start's."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await record_examination(core)
        except AuditError as dead:
            structlog.get_logger().error("log-unavailable", reason=str(dead))


async def record_examination(core: Core) -> None:
    """Examine the host and log what was found. Raises AuditError where it cannot be logged."""
    found = (*await asyncio.to_thread(examine), *abilities())
    core.gate.outcome(
        EXAMINED, "Custodian:custodian", "examine", f"Appliance:{core.facts.origin}", told(found)
    )


def told(found: Sequence[Check]) -> dict[str, JSON]:
    """Return an examination as an entry states it: what is wrong by name, and a digest of the whole."""
    whole = json.dumps([asdict(check) for check in found], sort_keys=True).encode("utf-8")

    def named(status: Status) -> list[JSON]:
        return [check.id for check in found if check.status is status]

    return {
        "isolated": isolated(tuple(found)),
        "failed": named(Status.FAIL),
        "unknown": named(Status.UNKNOWN),
        "ok": len(named(Status.OK)),
        "not_applicable": len(named(Status.NA)),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }
