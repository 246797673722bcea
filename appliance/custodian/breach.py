"""What the custodian does when the host stops being isolated, and what it asks for before it works again.

Guarantees, in the `isolated` profile, once the watch has found something: the vault's keys are overwritten,
then every worker is killed, both from the watch's own thread, so that nothing else the custodian does delays
them; then the breach is logged and signed, and the custodian becomes a fresh process, sealed. It opens again
only on an isolated host, for an operator who says why; that it has to is read from the log at each start.
Keys that cannot be overwritten hold none of the rest up; what came and went while the vault was being opened
is a breach as well.

In the `development` profile nothing is sealed: what was found is said in the daemon's log, once each.

KNOWN: where the log cannot be written the breach seals all the same, and the next start knows of no breach.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from appliance.custodian.core import Core
from appliance.custodian.trains import Trains
from appliance.custodian.workers import beat_all, kill_all
from appliance.errors import NotIsolated, PolicyRefused
from appliance.isolation.lookout import Lookout
from appliance.ledger import BREACH
from audit.entry import JSON
from audit.errors import AuditError

GUARDED = "isolated"  # the profile in which a breach ends the work
MAX_TOLD = 8
_MAX_SENTENCE = 200
_KILL_S = 1.0  # it takes microseconds


class Alarm:
    """The one answer to a breach, given once in a process."""

    def __init__(self, core: Core, trains: Trains, *, reseal: Callable[[], Awaitable[None]]) -> None:
        self._core = core
        self._trains = trains
        self._reseal = reseal
        self._loop = asyncio.get_running_loop()
        self._guard = threading.Lock()
        self._sounded = False
        self._killed = threading.Event()
        self._said: set[str] = set()
        self._since_calm: deque[str] = deque(maxlen=MAX_TOLD)
        self._concluding: asyncio.Task[None] | None = None
        self._say = structlog.get_logger()
        self.lookout = Lookout(self.sound, beat=beat_all)
        core.look_at_host = lambda: self.lookout.isolated

    def start(self) -> None:
        """Begin to watch; what the watch lacks is told with the appliance's other weaknesses."""
        self.lookout.start()
        self._core.watch_lacks = self.lookout.lacks

    def check(self) -> None:
        """Take a watch that does not look any more for a breach; called regularly by the loop."""
        if self.lookout.blind:
            self.sound([f"the watch has not finished a look for {self.lookout.blind_s:.0f} s"])

    def sound(self, found: Sequence[str]) -> None:
        """Answer a breach; from any thread. Sealed, or in another profile, it is only said, and kept."""
        with self._guard:  # before the question whether there are keys: who gets them now asks afterwards
            self._since_calm.extend(found)
        if self._core.facts.profile != GUARDED or self._core.sealed:
            self._mention(found)
            return
        with self._guard:
            if self._sounded:
                return
            self._sounded = True
        began = time.perf_counter()
        took: dict[str, int] = {}
        self._core.ending = BREACH
        told = list(found)
        try:
            self._core.wipe_keys()
            took["keys_wiped_us"] = _micros(time.perf_counter() - began)
        except Exception as failed:  # noqa: BLE001  the rest happens, and an exec drops the memory
            told.insert(0, f"the keys were not overwritten: {failed!r}")
        finally:
            try:
                # Asked for before the kill: a job whose worker is gone must hear why before it wonders.
                self._loop.call_soon_threadsafe(self._conclude, told, took)
            finally:
                kill_all()
                took["workers_killed_us"] = _micros(time.perf_counter() - began)
                self._killed.set()

    def demand_calm(self, reason: str) -> None:
        """Hold what must hold before the vault opens; raises NotIsolated, PolicyRefused without a reason."""
        if self._core.breach is not None and not reason:
            raise PolicyRefused(
                f"a breach of isolation sealed this appliance (log entry {self._core.breach}): find out what "
                "happened, then `appliance unseal --reason 'what was done about it'`"
            )
        if self._core.facts.profile != GUARDED:
            return
        with self._guard:
            self._since_calm.clear()
        if self.lookout.lacks:
            raise NotIsolated(
                f"the air-gap watch lacks {'; '.join(self.lookout.lacks)}: see `appliance doctor`"
            )
        if found := self.lookout.look():
            raise NotIsolated(
                f"the host is not isolated ({found[0][:_MAX_SENTENCE]}): see `appliance doctor`"
            )

    def arm(self) -> None:
        """Look once more, now that there are keys: what came, or came and went, meanwhile is a breach."""
        if self._core.facts.profile != GUARDED:
            return
        found = self.lookout.look()
        with self._guard:
            found += [told for told in self._since_calm if told not in found]
        if found:
            self.sound(found)

    def _mention(self, found: Sequence[str]) -> None:
        for each in set(found) - self._said:
            self._said.add(each)
            self._say.warning("not-isolated", found=each[:_MAX_SENTENCE])

    def _conclude(self, found: Sequence[str], took: dict[str, int]) -> None:
        self._concluding = self._loop.create_task(self._record_and_reseal(found, took))

    async def _record_and_reseal(self, found: Sequence[str], took: dict[str, int]) -> None:
        core = self._core
        self._killed.wait(_KILL_S)
        try:
            core.wipe()
        except Exception as failed:  # noqa: BLE001  as above
            self._say.error("keys-not-wiped", reason=repr(failed))
        self._say.error(BREACH, found=list(found[:MAX_TOLD]), **took)
        told: list[JSON] = [each[:_MAX_SENTENCE] for each in found[:MAX_TOLD]]
        core.breach = self._record(BREACH, {"found": told, "findings": len(found), **took})
        try:
            await self._trains.end_all(BREACH)
        finally:
            self._record("sealed", {"reason": BREACH})
            await self._reseal()

    def _record(self, kind: str, context: dict[str, JSON]) -> int | None:
        """Log what happened and return its index; None of a dead log, which does not keep the vault open."""
        resource = f"Appliance:{self._core.facts.origin}"
        try:
            return self._core.gate.outcome(kind, "Custodian:custodian", "seal", resource, context).index
        except AuditError as dead:
            self._say.error("log-unavailable", reason=str(dead))
            return None


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)
