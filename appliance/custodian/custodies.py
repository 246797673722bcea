"""The verbs that change how the vault is opened: rotate, prove new shares, tell the state.

Each asks the gate first. A change asks for the secret in force too, as whoever finds the vault open must not
take it over. The order, and what a crash leaves after each step:

    1. the new slot is written and opened once      the old slot counts; the new one is removed at the start
    2. an entry names it                            the new slot counts; the old one is removed at the start
    3. the old slot dies                            nothing to do

New shares go to people between 1 and 2 and wait, named by an entry of their own, until each was entered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import time
from collections.abc import Iterator, Mapping, Sequence

from appliance.age import parse_recipient
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custody.generations import (
    CUSTODY_CHANGED,
    CUSTODY_STAGED,
    Standing,
    check_record,
    reseal_vault,
    retire,
)
from appliance.custody.keyring import Keyring
from appliance.custody.pkcs11 import WrappedKey, tries_left
from appliance.custody.release import Custody
from appliance.custody.shamir import ShareSet
from appliance.custody.slot import (
    VAULT_SLOT,
    Created,
    SlotRecord,
    create_slot,
    numbered,
    open_slot,
    read_record,
    remove_slot,
    reseal,
)
from appliance.custody.tpm import TpmSeal
from appliance.custody.tpm_device import connected
from appliance.custody.unsealing import open_custody, read_secret
from appliance.custody.uri import canonical, what_is_asked
from appliance.errors import ApplianceError, Busy, SpaceExhausted, UsageError, WrongSecret
from appliance.gate import Thing
from appliance.grants import LiveGrants
from audit.entry import JSON
from audit.log import Committed
from policy.model import Entity

_POST_QUANTUM = "age1pq1"


def unlock(core: Core, live: LiveGrants, secret: bytearray | None, *, by_recovery: bool = False) -> Custody:
    """Open the slot in force, whose record must be the one that the log names; overwrites `secret`."""
    try:
        check_record(core.home.keys, core.standing.slot, core.standing.record)
        return open_custody(
            core.home,
            core.facts,
            core.vault,
            live,
            secret,
            slot=core.standing.slot,
            by_recovery=by_recovery,
            inventory=core.inventory,
            outdated=(lambda keyring: _reseal_outdated(core, keyring)) if core.sealed else None,
        )
    finally:
        _wipe(secret)


def reseal_keyring(core: Core, keyring: Keyring) -> None:
    """Write a changed keyring to the slots that the log names; raises SpaceExhausted, IntegrityError."""
    text = keyring.encode()
    try:
        reseal_vault(core.home.keys, core.standing, text, core.facts.recovery)
    finally:
        _wipe(text)


def _reseal_outdated(core: Core, keyring: Keyring) -> None:
    """Take from the disk a vault identity whose turn is over or never came; without space it stays."""
    with contextlib.suppress(SpaceExhausted):
        reseal_keyring(core, keyring)


class Custodies:
    """The custody verbs of one custodian; `turn` keeps an unsealing and a change apart."""

    def __init__(self, core: Core, turn: asyncio.Lock) -> None:
        self._core = core
        self._turn = turn

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {
            "CustodyStatus": self.custody_status,
            "RotateCustody": self.rotate_custody,
            "ProveCustody": self.prove_custody,
        }

    async def custody_status(self, caller: Caller) -> Answer:
        """Say how the vault is opened, whether the device answers, and which shares wait for their proof."""
        core = self._core
        self._decide(caller, "status")
        record = core.slot_record
        pending = read_record(core.home.keys, core.standing.pending_slot) if core.standing.pending else None
        return {
            "uri": record.uri,
            "asks": what_is_asked(record.uri),
            "recipient": record.recipient,
            "generation": core.standing.generation,
            "shares": _set_json(record),
            "pending": pending.uri if pending is not None else None,
            "pending_shares": _set_json(pending) if pending is not None else None,
            "device": await asyncio.to_thread(_device, record),
            "recovery": core.facts.recovery,
        }

    async def rotate_custody(self, caller: Caller) -> Answer:
        """Make a new slot: another secret, another seal, another kind of custody, or new shares."""
        core = self._core
        uri = canonical(caller.text("uri"))
        shares_fd = _pipe(caller, "shares_fd") if what_is_asked(uri) == "shares" else None
        secret, new = await _read(caller, "secret_fd"), await _read(caller, "new_secret_fd")
        try:
            async with self._turn:
                self._decide(caller, "configure", {"setting": "custody"})
                by_recovery = bool(caller.parameters.get("recovery"))
                with _keyring_held(core):
                    text = await asyncio.to_thread(self._keyring_text, secret, by_recovery=by_recovery)
                    try:
                        made = await asyncio.to_thread(self._make, uri, new, text)
                    finally:
                        _wipe(text)
                    if shares_fd is not None:
                        return self._stage(caller, made, shares_fd)
                    return await self._change(
                        caller, core.standing.next, made.record, None if by_recovery else secret
                    )
        finally:
            _wipe(secret)
            _wipe(new)

    async def prove_custody(self, caller: Caller) -> Answer:
        """Take every share of the set that waits, and put it in force; else rehearse the set in force."""
        core = self._core
        shares = await _read(caller, "shares_fd")
        try:
            async with self._turn:
                self._decide(caller, "configure", {"setting": "custody"})
                pending = core.standing.pending
                name = core.standing.pending_slot or core.standing.slot
                record = read_record(core.home.keys, name)
                text = await asyncio.to_thread(self._open_with_all, name, record, shares)
                try:
                    if pending is None:
                        return _answer(record, staged=False, index=None, left="")
                    self._bring_up_to_date(name, text)
                finally:
                    _wipe(text)
                return await self._change(caller, pending, record, None)
        finally:
            _wipe(shares)

    def _keyring_text(self, secret: bytearray | None, *, by_recovery: bool) -> bytearray:
        """Return the keyring as it is sealed, after the secret in force; that one is not overwritten."""
        alone = LiveGrants(time.monotonic)  # a table of its own: wiping it ends no running job's lease
        given = bytearray(secret) if secret is not None else None
        opened = unlock(self._core, alone, given, by_recovery=by_recovery)
        try:
            return opened.keyring.encode()
        finally:
            opened.wipe()

    def _make(self, uri: str, new: bytearray | None, text: bytearray) -> Created:
        """Write the next slot and open it once, beside the one in force; what fails leaves nothing."""
        core = self._core
        name = numbered(VAULT_SLOT, core.standing.next)
        remove_slot(core.home.keys, name)  # of an attempt that no entry names
        return create_slot(
            core.home.keys,
            name,
            uri,
            new,
            text,
            hybrid=core.slot_record.recipient.startswith(_POST_QUANTUM),
            recovery=parse_recipient(core.facts.recovery) if core.facts.recovery else None,
        )

    def _stage(self, caller: Caller, made: Created, shares_fd: int) -> Answer:
        """Hand the shares out, then name the slot that waits for them; a set that waited before is gone."""
        core = self._core
        number = core.standing.next
        try:
            _write_lines(shares_fd, made.shares)
        except BaseException:
            remove_slot(core.home.keys, numbered(VAULT_SLOT, number))
            raise
        finally:
            for share in made.shares:
                _wipe(share)
        standing = Standing(core.standing.generation, core.standing.record, number, made.record.digest)
        committed = self._tell(caller, CUSTODY_STAGED, standing, made.record)
        return _answer(made.record, staged=True, index=committed.index, left="")

    async def _change(
        self, caller: Caller, number: int, record: SlotRecord, old_secret: bytearray | None
    ) -> Answer:
        """Name the new slot in an entry, then destroy the old one and what it kept in a device."""
        old = self._core.slot_record
        committed = self._tell(caller, CUSTODY_CHANGED, Standing(number, record.digest), record)
        left = ""
        try:
            await asyncio.to_thread(old.lock.destroy, old_secret)
        except ApplianceError as refused:
            left = f"the old lock's part in its device could not be removed ({refused})"
        return _answer(record, staged=False, index=committed.index, left=left)

    def _tell(self, caller: Caller, kind: str, standing: Standing, record: SlotRecord) -> Committed:
        core = self._core
        committed = core.gate.outcome(
            kind,
            f"Person:{core.person(caller.uid).id}",
            "configure",
            f"Appliance:{core.facts.origin}",
            {**standing.fields(), "custody": record.uri, "reason": caller.text("reason")},
        )
        core.standing = standing
        retire(core.home.keys, standing)
        return committed

    def _open_with_all(self, name: str, record: SlotRecord, shares: bytearray | None) -> bytearray:
        lock = record.lock
        if not isinstance(lock, ShareSet):
            raise UsageError(f"custody {record.uri} has no shares to prove; `appliance unseal` proves it")
        entered = bytes(shares or b"").count(b"\n") + 1 if shares else 0
        if entered != lock.shares:
            raise WrongSecret(f"shares: expected all {lock.shares}, each to be proved, found {entered}")
        return open_slot(self._core.home.keys, name, shares)

    def _bring_up_to_date(self, name: str, text: bytearray) -> None:
        """Seal the keyring of today under the proved lock: keys may have changed while the shares waited."""
        core = self._core
        today = core.custody.keyring.encode()
        try:
            if today != text:
                offline = parse_recipient(core.facts.recovery) if core.facts.recovery else None
                record = check_record(core.home.keys, name, core.standing.pending_record)
                reseal(core.home.keys, name, record, today, offline)
        finally:
            _wipe(today)

    def _decide(self, caller: Caller, action: str, context: Mapping[str, JSON] | None = None) -> None:
        person: Entity = self._core.person(caller.uid)
        self._core.gate.request(person, action, Thing(self._core.appliance()), context)


@contextlib.contextmanager
def _keyring_held(core: Core) -> Iterator[None]:
    """Let no rotation of the vault's key change the keyring while a slot is made of it; raises Busy."""
    if core.rotating:
        raise Busy("a rotation or a backup is under way: wait for its end")
    core.rotating = True
    try:
        yield
    finally:
        core.rotating = False


def _answer(record: SlotRecord, *, staged: bool, index: int | None, left: str) -> Answer:
    return {
        "uri": record.uri,
        "recipient": record.recipient,
        "staged": staged,
        "log_index": index,
        "left": left,
    }


def _set_json(record: SlotRecord) -> JSON:
    lock = record.lock
    if not isinstance(lock, ShareSet):
        return None
    return {"identifier": lock.identifier, "threshold": lock.threshold, "shares": lock.shares}


def _device(record: SlotRecord) -> str:
    """Say in words what the device behind a lock says about itself, "" where there is none or all is well."""
    lock = record.lock
    try:
        if isinstance(lock, WrappedKey):
            return tries_left(lock.where)
        if isinstance(lock, TpmSeal):
            with connected(lock.where.tcti):
                return ""
    except ApplianceError as missing:
        return str(missing)
    return ""


async def _read(caller: Caller, name: str) -> bytearray | None:
    if caller.parameters.get(name) is None:
        return None
    return await read_secret(caller.descriptor(name))


def _pipe(caller: Caller, name: str) -> int:
    """Return the caller's descriptor to write shares to: a pipe, since a file would keep them."""
    if caller.parameters.get(name) is None:
        raise UsageError("custody: expected a pipe to hand the new shares to, found none")
    fd = caller.descriptor(name)
    room = select.poll()
    room.register(fd, select.POLLOUT)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode) or not room.poll(0):
        raise UsageError("custody: expected an empty pipe to hand the new shares to, found none")
    return fd


def _write_lines(fd: int, lines: Sequence[bytearray]) -> None:
    """Write all shares at once: they are less than a pipe's buffer holds."""
    text = bytearray().join(line + b"\n" for line in lines)
    try:
        with contextlib.suppress(BlockingIOError):
            if os.write(fd, text) == len(text):
                return
        raise UsageError("custody: expected an empty pipe to hand the new shares to, found one without room")
    finally:
        _wipe(text)


def _wipe(buffer: bytearray | None) -> None:
    if buffer is not None:
        buffer[:] = bytes(len(buffer))
