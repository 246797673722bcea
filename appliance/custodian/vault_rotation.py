"""Rotating the vault's identity: new headers for all objects, payloads untouched, the old identity destroyed.

The order, and what a crash leaves after each step; a repeat goes on from there:

    1. decision, which lists the objects          nothing
    2. keyring on disk holds both identities      the next one was never used: the unsealing forgets it
    3. entry `vault-key-begun` names the next     new objects are wrapped for it; both open
    4. headers, batch after batch                 each is the old or the new one; the keyring opens both
    5. entry `vault-key-rotated`                  the next one is the vault's; the unsealing drops the old
    6. keyring on disk holds the next one alone   done

Steps 1 to 3 and 5 to 6 run without a pause, so no object is made between an identity and its entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from appliance.catalog.entries import repeat
from appliance.custodian.core import Core
from appliance.custodian.custodies import reseal_keyring
from appliance.custodian.jobs import new_job_id
from appliance.custody.release import Custody
from appliance.errors import Busy, IntegrityError, UnknownObject
from appliance.exchange import HeaderExchange, sync_file_system
from appliance.gate import Allowed, Thing
from appliance.inventory import KEY_BEGUN, KEY_ROTATED
from audit.entry import JSON, parse_entry
from audit.log import Committed
from policy.model import Entity

# Tuning: folders held open at a time, well below the usual limit of 1,024 descriptors.
BATCH = 512
# Tuning: headers between two looks at the clients, some 15 ms.
BREATH = 32


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rotation is; `entry` is -1 until it ended, `sync_s` are seconds spent in syncfs."""

    done: int
    total: int
    entry: int = -1
    sync_s: float = 0.0


def demand_no_rotation(core: Core) -> None:
    """Raise Busy while a rotation is under way, or was cut off."""
    _demand_none_running(core)
    if core.inventory.next_recipient is not None:
        raise Busy("a rotation of the vault's key was cut off: finish it, `appliance keys rotate`, first")


def _demand_none_running(core: Core) -> None:
    if core.rotating:
        raise Busy("a rotation or a backup is under way: wait for its end")


async def rotate_vault_key(
    core: Core,
    person: Entity,
    reason: str,
    *,
    without: str = "",
    first: Callable[[], None] = lambda: None,
) -> AsyncGenerator[Progress, None]:
    """Begin a rotation, or go on with one that was cut off, and tell how far it is.

    `first` is done once the rotation is decided on, and before anything else; `without` is an object that it
    takes away. Raises Busy for a second one at a time, IntegrityError for an object that would be left
    behind, SpaceExhausted; after any error every object opens as before, and the same call goes on.
    """
    custody = core.custody
    _demand_none_running(core)
    core.rotating = True
    try:
        ids = _all_objects(core, without)
        decided = _decide(core, person, reason, ids)
        first()
        _begin(core, custody, decided)
        synced = 0.0
        async for done, synced in _rewrap(core, custody, decided, ids):
            yield Progress(done, len(ids), sync_s=synced)
        entry = _end(core, custody, decided, len(ids))
        yield Progress(len(ids), len(ids), entry.index, synced)
    finally:
        core.rotating = False


def _all_objects(core: Core, without: str) -> list[str]:
    """List what is in the vault or on its way there; nothing that the catalog names may be lacking."""
    names = set(core.catalog.present()) - {without}
    _demand_none(names - set(core.vault.folders()))
    return sorted(names | set(core.vault.staged()))


def _demand_none(missing: set[str]) -> None:
    if missing:
        raise IntegrityError(
            f"{len(missing)} objects lack their folders, first {min(missing)[:16]}: their headers in a "
            "backup would stay shut after a rotation; restore them, or shred them, first"
        )


def _decide(core: Core, person: Entity, reason: str, ids: Sequence[str]) -> Allowed:
    context: dict[str, JSON] = {"reason": reason} if reason else {}
    resource = Thing(core.appliance())
    return core.gate.request(person, "rotate", resource, context, job=new_job_id("rotate"), named=ids)


def _begin(core: Core, custody: Custody, decided: Allowed) -> None:
    """Make the next identity, on disk and in the log, unless a rotation that was cut off did."""
    keyring = custody.keyring
    if keyring.next_vault_identity is not None:
        return
    upcoming = keyring.prepare_rotation()
    try:
        reseal_keyring(core, custody.keyring)
        _record(core, KEY_BEGUN, upcoming.recipient.text, decided, {})
    except BaseException:
        keyring.drop_rotation()
        raise


async def _rewrap(
    core: Core, custody: Custody, decided: Allowed, ids: Sequence[str]
) -> AsyncGenerator[tuple[int, float], None]:
    headers = custody.rewrap(decided.grant, ids)
    synced = 0.0
    left = set(ids)
    while left:
        exchange = HeaderExchange(core.vault, core.home.vault)
        try:
            done = await _fill(exchange, headers)
            await exchange.settle()
        except BaseException:
            exchange.discard()
            raise
        synced += exchange.sync_s
        left -= done
        yield len(ids) - len(left), synced
        if not done:
            break
    _demand_none(left & set(core.catalog.present()))  # what was discarded or retired meanwhile is no object
    core.live.revoke_job(decided.grant.job)


async def _fill(exchange: HeaderExchange, headers: Iterator[tuple[str, bytes]]) -> set[str]:
    done: set[str] = set()
    for object_id, header in islice(headers, BATCH):
        with suppress(UnknownObject):  # discarded or retired meanwhile
            exchange.put(object_id, header)
        done.add(object_id)
        if len(done) % BREATH == 0:
            await asyncio.sleep(0)
    return done


def _end(core: Core, custody: Custody, decided: Allowed, count: int) -> Committed:
    upcoming = custody.keyring.next_vault_identity
    assert upcoming is not None  # noqa: S101  `_begin` saw to it, and only this ends it
    sync_file_system(core.home.vault)
    committed = _record(core, KEY_ROTATED, upcoming.recipient.text, decided, {"objects": count})
    custody.keyring.end_rotation()
    reseal_keyring(core, custody.keyring)
    return committed


def _record(core: Core, kind: str, recipient: str, decided: Allowed, more: dict[str, JSON]) -> Committed:
    said: dict[str, JSON] = {"vault_recipient": recipient, "decision": decided.grant.index, **more}
    return core.record(
        kind,
        "Custodian:custodian",
        "rotate",
        f"Appliance:{core.facts.origin}",
        said,
        then=lambda committed: repeat(core.catalog, parse_entry(committed.entry)),
    )
