"""The verbs that look after the vault as a whole: its key, its objects' bytes and end, copies of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Mapping

from appliance.custodian.backing import back_up
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.shredding import Shredded, shred
from appliance.custodian.vault_rotation import rotate_vault_key
from appliance.custodian.verifying import verify_objects
from appliance.gate import Thing


class Vaulting:
    """The vault's verbs of one custodian."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {
            "RotateVaultKey": self.rotate_vault_key,
            "Shred": self.shred,
            "VerifyObjects": self.verify_objects,
            "Backup": self.backup,
        }

    async def rotate_vault_key(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Wrap every header for a new vault identity, telling how far that is."""
        core = self._core
        person = core.person(caller.uid)
        async with contextlib.aclosing(rotate_vault_key(core, person, caller.text("reason"))) as progress:
            async for told in progress:
                yield {
                    "done": told.done,
                    "total": told.total,
                    "log_index": told.entry if told.entry >= 0 else None,
                    "sync_s": round(told.sync_s, 3),
                }

    async def shred(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Shred an object by two officers' word, telling how far the rotation is that follows."""
        core = self._core
        person = core.person(caller.uid)
        shredding = shred(core, person, caller.text("object"), caller.text("request"))
        async with contextlib.aclosing(shredding) as progress:
            async for told in progress:
                yield _shredded(told) if isinstance(told, Shredded) else _progress(told.done, told.total)

    async def verify_objects(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Hold every payload, or one, against the entry that created it, telling findings and progress."""
        core = self._core
        core.gate.request(core.person(caller.uid), "status", Thing(core.appliance()))
        wanted = caller.text("object")
        rows = (core.catalog.get(wanted),) if wanted else core.catalog.list()
        async with contextlib.aclosing(verify_objects(core, rows)) as progress:
            async for told in progress:
                yield {
                    "objects": told.objects,
                    "done_bytes": told.done_bytes,
                    "total_bytes": told.total_bytes,
                    "about": told.about,
                    "finding": told.finding,
                }

    async def backup(self, caller: Caller) -> AsyncGenerator[Answer, None]:
        """Bring the backup in the caller's folder up to this moment."""
        core = self._core
        folder = os.dup(caller.descriptor("folder_fd"))
        backing = back_up(core, core.person(caller.uid), folder, caller.text("name"), caller.uid)
        async with contextlib.aclosing(backing) as progress:
            async for told in progress:
                yield {
                    "done": told.done,
                    "total": told.total,
                    "copied_bytes": told.copied_bytes,
                    "log_index": told.entry if told.entry >= 0 else None,
                }


_NOTHING: Answer = dict.fromkeys(("done", "total", "id", "log_index", "proof", "descendants", "remains"))


def _progress(done: int, total: int) -> Answer:
    return {**_NOTHING, "done": done, "total": total}


def _shredded(told: Shredded) -> Answer:
    return {
        **_NOTHING,
        "id": told.object_id,
        "log_index": told.entry,
        "proof": told.proof,
        "descendants": told.descendants,
        "remains": [{"what": each.what, "entry": each.entry, "detail": each.detail} for each in told.remains],
    }
