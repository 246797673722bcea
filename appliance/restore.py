"""From a backup to an appliance that may go on: the same vault and people, a new log that names the old one.

Guarantees whoever restores that the old log is not continued: entries that the backup lacks may have been
signed, and a second history under their key would contradict them. The new log's first entry names the old
log's key, size and root as the backup has them; then every object and every import that the old log tells of
is told again, so that the catalog is built from the new log and no bundle can be imported twice.

The backup is only read. The new home is built beside its place and renamed, so it is complete or absent.
KNOWN: jobs, requests and receipts of before stay in the backup. A commitment that was told again opens with
the salt of the entry that `restored_from` names. Models of before cannot be exported with their lineage: the
decisions that it rests on are in the old log.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.catalog import Catalog
from appliance.catalog.entries import CHARGED, IMPORTED, OUTGOING, RETIRED, UNFILLED
from appliance.custody.generations import CUSTODY_ENTRIES, Standing, check_record, standing_of
from appliance.custody.logkeys import create_log_key
from appliance.custody.slot import VAULT_SLOT
from appliance.errors import AlreadyExists, IntegrityError
from appliance.home import CHANGED, Facts, Home, read_facts, read_officers, undisturbed, write_facts
from appliance.initialise import GENESIS, genesis_record, tighten
from appliance.inventory import EVENTS
from appliance.ledger import (
    CLOCK_SET,
    LIMITS_CHANGED,
    OFFICERS_CHANGED,
    POLICY_LOADED,
    RELEASE_FLOOR,
    ROOT_CHANGED,
)
from appliance.vault import Vault
from audit.entry import Entry, Record
from audit.keys import LogKeys
from audit.log import MAX_GROUP, Log
from audit.note import VerifierKey
from audit.restore import CONTINUES, Continued, last_head
from audit.verify import verify_log

# What the catalog is built from, what replays are refused by, what left, and what time it is.
CARRIED = (
    *EVENTS,
    RETIRED,
    IMPORTED,
    CHARGED,
    CLOCK_SET,
    LIMITS_CHANGED,
    POLICY_LOADED,
    ROOT_CHANGED,
    RELEASE_FLOOR,
)
EARLIER = "earlier"  # the old log and catalog, as the backup has them


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restored appliance tells its people: the new log's public keys and head, and the old log's."""

    origin: str
    log_vkey: str
    log_pq_vkey: str
    tree_head: str
    earlier: Continued
    carried: int


def restore(
    backup: Path, root: Path, *, origin: str | None = None, clock: Callable[[], float] = time.time
) -> Restored:
    """Make an appliance in `root`, which must not exist or be empty, of one that lies in `backup`.

    Raises AlreadyExists, Busy, IntegrityError, and what `audit.verify.verify_log` raises for its log.
    """
    old = Home(backup)
    if root.exists() and any(root.iterdir()):
        raise AlreadyExists(f"expected no appliance in {root}, found files: choose another folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    new = Home(root.with_name(f".{root.name}.{secrets.token_hex(4)}"))
    told: list[Entry] = []
    custody: list[Entry] = []
    officers: list[Entry] = []

    def observe(entry: Entry) -> None:
        if entry.kind in CARRIED:
            told.append(entry)
        if entry.seq == 0 or entry.kind in CUSTODY_ENTRIES:
            custody[:] = [entry]
        if entry.kind == OFFICERS_CHANGED:
            officers[:] = [entry]

    with undisturbed(old):
        facts = _with_officers(read_home(old, observe), officers)
        standing = standing_of(custody[0])
        new.root.mkdir(mode=0o750)
        try:
            _copy(old, new, standing)
            made = _begin_log(
                old, new, facts, standing, told, origin or f"appliance.invalid/{secrets.token_hex(4)}", clock
            )
            tighten(new.root)
            if root.exists():
                root.rmdir()
            new.root.rename(root)
        except BaseException:
            shutil.rmtree(new.root, ignore_errors=True)
            raise
    return made


def _with_officers(facts: Facts, changed: list[Entry]) -> Facts:
    """Return the facts that a new log begins with: those who may approve now are in its first entry."""
    for entry in changed:
        said: Mapping[str, Any] = entry.context  # written by the appliance, and verified with its log
        roles = {name: tuple(held) for name, held in said["roles"].items()}
        facts = replace(facts, officers_sha256=said["officers_sha256"], roles=roles)
    return facts


def read_home(home: Home, observe: Callable[[Entry], None]) -> Facts:
    """Verify a stopped home's published log whole, and its facts against it; returns the facts.

    `observe` gets each entry. Raises IntegrityError, and what `audit.verify.verify_log` raises.
    """
    facts = read_facts(home)
    first: list[Entry] = []

    def look(entry: Entry) -> None:
        if entry.seq == 0:
            first.append(entry)
        observe(entry)

    second = VerifierKey.parse(facts.log_pq_vkey) if facts.log_pq_vkey else None
    verify_log(home.log, LogKeys.of(VerifierKey.parse(facts.log_vkey), second), observe=look)
    if not first or first[0].kind != GENESIS or first[0].context.get("facts_sha256") != facts.digest:
        raise IntegrityError(f"{home.facts} {CHANGED}: it was changed, take another copy")
    return facts


def _copy(old: Home, new: Home, standing: Standing) -> None:
    for folder in (new.keys, new.run, new.quarantine, new.jobs, new.root / EARLIER):
        folder.mkdir(mode=0o750 if folder == new.run else 0o700)
    check_record(old.keys, standing.slot, standing.record)
    for path in old.keys.glob(f"{standing.slot}.*"):  # the new log begins with it, so it needs no number
        shutil.copy2(path, new.keys / path.name.replace(standing.slot, VAULT_SLOT, 1))
    shutil.copy2(old.officers, new.officers)
    shutil.copytree(old.policy, new.policy)
    shutil.copytree(
        old.vault, new.vault, ignore=lambda path, _: [".incoming"] if Path(path) == old.vault else []
    )
    Vault(new.vault).create()
    shutil.copytree(old.log, new.root / EARLIER / "log")
    for path in old.root.glob(f"{old.catalog.name}*"):
        shutil.copy2(path, new.root / EARLIER)


def _begin_log(
    old: Home,
    new: Home,
    facts: Facts,
    standing: Standing,
    told: list[Entry],
    origin: str,
    clock: Callable[[], float],
) -> Restored:
    earlier = last_head(old.log, VerifierKey.parse(facts.log_vkey))
    signer = create_log_key(new.keys, 0, origin, facts.log_custody, post_quantum=bool(facts.log_pq_vkey))
    vkeys = [key.text for key in signer.keys]
    facts = replace(facts, origin=origin, log_vkey=vkeys[0], log_pq_vkey="".join(vkeys[1:]))
    genesis = genesis_record(facts, read_officers(old, facts.officers_sha256), standing.record)
    records = [replace(genesis, context={**genesis.context, CONTINUES: earlier.context})]
    records += [_retold(entry) for entry in told]
    log = Log.create(new.log, signer, clock)
    try:
        for start in range(0, len(records), MAX_GROUP):
            log.append(records[start : start + MAX_GROUP])
        head = log.tree_head().decode("utf-8")
    finally:
        log.close()
    _number_exports_on(new)
    write_facts(new, facts)
    return Restored(origin, facts.log_vkey, facts.log_pq_vkey, head, earlier, len(told))


def _retold(entry: Entry) -> Record:
    context: Mapping[str, Any] = {**entry.context, "restored_from": entry.seq}
    return Record(entry.kind, entry.principal, entry.action, entry.resource, context)


def _number_exports_on(new: Home) -> None:
    """Begin an empty catalog, which the first start fills, but never number two outgoing bundles alike."""
    before, after = Catalog(new.root / EARLIER / new.catalog.name), Catalog(new.catalog)
    try:
        after.set_meta(UNFILLED, "restore")
        last = before.last_bundle(*OUTGOING)
        if last is not None:
            after.set_last_bundle(*OUTGOING, last.seq, last.digest)
    finally:
        before.close()
        after.close()
