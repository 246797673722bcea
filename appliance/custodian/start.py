"""From a folder to a checked appliance: every cache is compared with the log before anything is served.

Order: the home's lock → public facts → the log's own slot → the log (with the recovery that a crash would
need) → facts and rules against the genesis entry, officers against the newest that names them → leftovers in
vault and quarantine → the catalog against the log, and the log against the catalog (`reckoning`) → jobs that
a crash cut off.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from appliance import __version__
from appliance.catalog import Catalog
from appliance.custodian.core import Core
from appliance.custodian.leaving import recount
from appliance.custodian.officers import settle_officers
from appliance.custodian.recall import recall
from appliance.custodian.reckoning import reckon
from appliance.custody.generations import retire, standing_of
from appliance.custody.logkeys import open_log_keys, retire_log_keys
from appliance.errors import Busy, IntegrityError, UnknownObject
from appliance.grants import LiveGrants
from appliance.home import CHANGED, Facts, Home, read_facts
from appliance.ledger import Ledger
from appliance.release.version import demand_release
from appliance.ruleset import open_rules
from appliance.vault import Vault
from audit.entry import JSON, parse_entry
from audit.keys import LogKeys
from audit.log import Log
from audit.note import VerifierKey
from audit.restore import CONTINUES
from audit.signing import Signers

GENESIS = "genesis"


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
        ledger = Ledger(log, facts)
        demand_release(__version__, ledger.least_release)
        if not ledger.damage:
            settle_officers(home, ledger.enrolment)
        engine = open_rules(home, facts, ledger.policy_set)
        vault = Vault(home.vault)
        vault.create()
        leftovers = (*vault.recover(), *clear_quarantine(home))
        catalog = Catalog(home.catalog)
        undo.callback(catalog.close)
        live = LiveGrants(monotonic)
        core = Core(
            home,
            facts,
            log,
            engine,
            catalog,
            vault,
            live,
            ledger,
            monotonic=monotonic,
            clock=clock,
            sysroot=sysroot,
        )
        reckoned = reckon(log, catalog)
        core.inventory = reckoned.inventory
        recalled = recall(log, ledger)
        core.standing = standing_of(recalled.custody)
        core.breach = recalled.breach
        core.slot_record  # noqa: B018  refused at the start, not at the first unsealing
        core.count_from(recalled.counter, continued=CONTINUES in parse_entry(log.entry(0)).context)
        if reckoned.rebuilt:
            core.gate.outcome(
                "catalog-rebuilt",
                "Custodian:custodian",
                "start",
                f"Appliance:{facts.origin}",
                {"by": reckoned.rebuilt, "objects": len(catalog.list())},
            )
        recount(core)
        cut_off = end_cut_off_jobs(core)
        known = clear_gone(core)
        core.missing, core.orphans = vault.damaged(known), vault.orphans(known)
        retire_log_keys(home.keys, len(log.epochs.chain.closings))
        if not ledger.damage:  # an entry that cannot be read may have put another slot in force
            retire(home.keys, core.standing)  # by now the log is known not to be an older one
        undo.pop_all()
    say = structlog.get_logger()
    say.info(
        "opened", home=str(home.root), leftovers=len(leftovers), caught_up=reckoned.caught_up, cut_off=cut_off
    )
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


def clear_gone(core: Core) -> list[str]:
    """Remove from the vault what a crash left of retired and shredded objects; return the others' ids."""
    rows = core.catalog.list()
    for row in rows:
        if row.gone:
            core.vault.remove(row.id)
    return [row.id for row in rows if not row.gone]


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
