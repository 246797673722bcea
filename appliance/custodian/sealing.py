"""Opening and closing the vault: the two verbs after which there are keys, or none.

Opening asks for a host that is isolated, where the profile demands one, and for a reason after a breach.
Closing needs no entry to succeed: it releases nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

from appliance.custodian.breach import Alarm
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.custodies import unlock
from appliance.custodian.trains import Trains
from appliance.custodian.workers import kill_all
from appliance.custody.unsealing import read_secret
from appliance.errors import PolicyRefused
from appliance.gate import Thing
from appliance.ledger import UNSEALED
from audit.errors import LogUnavailable


class Sealing:
    """Unseal and seal of one custodian; `lock` is held while a secret is being tried."""

    def __init__(
        self,
        core: Core,
        trains: Trains,
        alarm: Alarm,
        lock: asyncio.Lock,
        *,
        reseal: Callable[[], Awaitable[None]],
    ) -> None:
        self._core = core
        self._trains = trains
        self._alarm = alarm
        self._unsealing = lock
        self._reseal = reseal

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"Unseal": self.unseal, "Seal": self.seal}

    async def unseal(self, caller: Caller) -> Answer:
        """Open the vault's slot with the secret on the caller's pipe."""
        core = self._core
        secret = await secret_of(caller)
        by_recovery = bool(caller.parameters.get("recovery"))
        async with self._unsealing:
            self._decide(caller)
            if not core.sealed:
                return {}
            self._alarm.demand_calm(caller.text("reason"))
            person = core.person(caller.uid)
            try:
                core.counting.demand_compared(by_recovery=by_recovery)
                opened = await asyncio.to_thread(unlock, core, core.live, secret, by_recovery=by_recovery)
            except Exception as refused:
                core.gate.outcome(
                    "unseal-failed",
                    f"Person:{person.id}",
                    "unseal",
                    f"Appliance:{core.facts.origin}",
                    {"reason": getattr(refused, "code", "internal")},
                )
                raise
            try:
                core.gate.outcome(
                    UNSEALED,
                    f"Person:{person.id}",
                    "unseal",
                    f"Appliance:{core.facts.origin}",
                    {
                        "custody": core.custody_uri,
                        "by_recovery": by_recovery,
                        "counter_compared": not core.counting.problem,
                        "reason": caller.text("reason"),
                    },
                )
            except BaseException:
                opened.wipe()
                raise
            core.custody, core.breach = opened, None
            self._alarm.arm()
        return {}

    async def seal(self, caller: Caller) -> Answer:
        """End every worker, wipe the keys, and replace this process by a fresh one.

        A dead log does not keep the keys in memory: sealing releases nothing.
        """
        look(self._core, caller, "seal")
        await self._trains.end_all("sealed")
        kill_all()
        self._core.wipe()
        person = self._core.person(caller.uid)
        with contextlib.suppress(LogUnavailable):
            self._core.gate.outcome(
                "sealed",
                f"Person:{person.id}",
                "seal",
                f"Appliance:{self._core.facts.origin}",
                {"reason": caller.text("reason")},
            )
        await self._reseal()
        return {}

    def _decide(self, caller: Caller) -> None:
        person = self._core.person(caller.uid)
        self._core.gate.request(person, "unseal", Thing(self._core.appliance()))


def look(core: Core, caller: Caller, action: str) -> None:
    """Decide on what releases nothing; with a dead log, enrolment decides: to look, to close, to end."""
    try:
        core.gate.request(core.person(caller.uid), action, Thing(core.appliance()))
    except LogUnavailable as dead:
        if core.facts.person_of(caller.uid) is None:
            raise PolicyRefused(f"uid {caller.uid} is nobody here, and the log has stopped") from dead


async def secret_of(caller: Caller) -> bytearray | None:
    """Read the secret from the caller's pipe, None where none was handed over (a key-file slot)."""
    if caller.parameters.get("secret_fd") is None:
        return None
    return await read_secret(caller.descriptor("secret_fd"))
