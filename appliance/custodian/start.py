"""From a folder to a checked appliance: every cache is compared with the log before anything is served.

Order: the home's lock → public facts → the log's own slot → the log (with the recovery that a crash would
need) → facts, rules and officers against the genesis entry → leftovers in vault and quarantine → the catalog
against the log's creation entries → jobs that a crash cut off.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from appliance.catalog import Catalog
from appliance.custodian.approvals import USED
from appliance.custodian.core import Core
from appliance.custodian.imports import IMPORTED, ROLE
from appliance.custodian.outputs import row_of
from appliance.custodian.retention import RETIRED, complete_retirement
from appliance.custody.logkeys import open_log_keys, retire_log_keys
from appliance.errors import Busy, IntegrityError, UnknownObject
from appliance.gate import CREATED
from appliance.grants import LiveGrants
from appliance.home import CHANGED, Facts, Home, read_facts, read_officers
from appliance.vault import Vault
from audit.entry import JSON, parse_entry
from audit.keys import LogKeys
from audit.log import Log
from audit.note import VerifierKey
from audit.signing import Signers
from policy.engine import Engine

GENESIS = "genesis"
_SEEN = "log_seen"


@dataclass(frozen=True, slots=True)
class Opened:
    """A checked appliance and the descriptor of its lock."""

    core: Core
    lock: int


def take_lock(home: Home, inherited: int | None) -> int:
    """Hold the home for this process; raises Busy while another daemon has it, UnknownObject if none."""
    if inherited is not None:
        os.set_inheritable(inherited, False)  # a child gets what is listed for it, and no lock
        return inherited
    try:
        descriptor = os.open(home.run / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError as missing:
        raise UnknownObject(f"no appliance in {home.root}: make one with `appliance init`") from missing
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as held:
        os.close(descriptor)
        raise Busy(f"another daemon runs in {home.root}: end it with `appliance shutdown`") from held
    return descriptor


def open_appliance(
    home: Home,
    inherited_lock: int | None = None,
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sysroot: Path = Path("/"),
) -> Opened:
    """Open and check everything; raises the error of the first thing that is wrong and holds nothing then."""
    with ExitStack() as undo:
        lock = take_lock(home, inherited_lock)
        undo.callback(os.close, lock)
        facts = read_facts(home)
        log = _open_log(home, facts, clock)
        undo.callback(log.close)
        _check_genesis(home, facts, log)
        engine = _load_policy(home, facts)
        vault = Vault(home.vault)
        vault.create()
        leftovers = (*vault.recover(), *clear_quarantine(home))
        catalog = Catalog(home.catalog)
        undo.callback(catalog.close)
        live = LiveGrants(monotonic)
        core = Core(
            home, facts, log, engine, catalog, vault, live, monotonic=monotonic, clock=clock, sysroot=sysroot
        )
        caught_up = catch_up(core)
        cut_off = end_cut_off_jobs(core)
        known = [row.id for row in catalog.list() if not row.retired]
        core.missing, core.orphans = vault.damaged(known), vault.orphans(known)
        retire_log_keys(home.keys, len(log.epochs.chain.closings))
        undo.pop_all()
    say = structlog.get_logger()
    say.info("opened", home=str(home.root), leftovers=len(leftovers), caught_up=caught_up, cut_off=cut_off)
    return Opened(core, lock)


def clear_quarantine(home: Home) -> tuple[str, ...]:
    """Remove the parts of imports that a crash cut off; return whose they were."""
    jobs = tuple(sorted(folder.name for folder in home.quarantine.iterdir()))
    for job in jobs:
        shutil.rmtree(home.quarantine / job)
    return jobs


def _open_log(home: Home, facts: Facts, clock: Callable[[], float]) -> Log:
    """Open the log under the first key's name; which key signs now, the log itself says."""
    held = open_log_keys(home.keys, facts.origin)
    named = [text for text in (facts.log_vkey, facts.log_pq_vkey) if text]
    if 0 in held and [key.text for key in held[0].keys] != named:
        # A log begun anew under another key repeats every other fact.
        raise IntegrityError(
            f"{home.facts} names another log key than {home.keys} holds: restore both from a backup"
        )
    first = LogKeys((tuple(VerifierKey.parse(text) for text in named),))
    return Log.open(home.log, Signers(first, tuple(held.values())), clock)


def _check_genesis(home: Home, facts: Facts, log: Log) -> None:
    if log.size == 0:
        raise IntegrityError(f"{home.log} has no genesis entry: `appliance init` was cut off, run it anew")
    genesis = parse_entry(log.entry(0))
    if genesis.kind != GENESIS or genesis.context.get("facts_sha256") != facts.digest:
        raise IntegrityError(f"{home.facts} {CHANGED}: restore it from a copy or from that entry")
    read_officers(home, facts)


def _load_policy(home: Home, facts: Facts) -> Engine:
    rules = {path.name: path.read_text("utf-8") for path in sorted(home.policy.glob("*.cedar"))}
    engine = Engine(rules, (home.policy / "schema.cedarschema").read_text("utf-8"))
    if engine.digest != facts.policy_set:
        raise IntegrityError(f"the rule set in {home.policy} {CHANGED}: restore its files")
    return engine


def catch_up(core: Core) -> int:
    """Do what entries say and a crash kept from the catalog; return how many rows were changed.

    Also mends a catalog that was set back: it remembers how far it has seen, and reads on from there.
    """
    changed = 0
    for index in range(int(core.catalog.meta(_SEEN) or 0), core.log.size):
        entry = core.log.entry(index)
        parsed = parse_entry(entry)
        if parsed.kind in _REPEATED:
            changed += _REPEATED[parsed.kind](core, entry, index)
    core.catalog.set_meta(_SEEN, str(core.log.size))
    return changed


def _repeat_created(core: Core, entry: bytes, index: int) -> bool:
    row = row_of(entry, index)
    try:
        core.catalog.get(row.id)
    except UnknownObject:
        core.catalog.add(row)
        return True
    return False


def _repeat_imported(core: Core, entry: bytes, index: int) -> bool:
    del index
    said: Mapping[str, Any] = parse_entry(entry).context
    last = core.catalog.last_bundle(said["channel"], ROLE)
    if last is not None and last.seq >= said["bundle_seq"]:
        return False
    core.catalog.set_last_bundle(said["channel"], ROLE, said["bundle_seq"], said["manifest_sha256"])
    return True


def _repeat_used(core: Core, entry: bytes, index: int) -> bool:
    del index
    said: Mapping[str, Any] = parse_entry(entry).context
    try:
        if core.catalog.request(said["request"]).state != "open":
            return False
    except UnknownObject:
        return False
    core.catalog.use_request(said["request"])
    return True


_REPEATED: Mapping[str, Callable[[Core, bytes, int], bool]] = {
    CREATED: _repeat_created,
    IMPORTED: _repeat_imported,
    USED: _repeat_used,
    RETIRED: complete_retirement,
}


def end_cut_off_jobs(core: Core) -> int:
    """Mark and log jobs that were running when an earlier process ended; their checkpoints stand."""
    count = 0
    for row in core.catalog.jobs():
        if row.state in ("queued", "running"):
            context: dict[str, JSON] = {
                "job": row.id,
                "state": "failed",
                "step": row.step,
                "reason": "custodian-ended",
            }
            core.gate.outcome("job-ended", "Custodian:custodian", "train", f"JobRecord:{row.id}", context)
            reason = f"the daemon ended: continue with `appliance train --resume {row.id}`"
            core.catalog.set_job(row.id, state="failed", reason=reason)
            count += 1
    return count
