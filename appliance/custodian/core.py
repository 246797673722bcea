"""What the custodian knows and holds, shared by its verbs.

Two states: sealed (no vault keys; the log goes on) and unsealed. `custody` raises SealedError in the first,
so that no verb can forget to ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from appliance.allowance import Allowance
from appliance.catalog import Catalog, Object
from appliance.custodian.counting import Counting
from appliance.custodian.reckoning import catch_up, keep_head
from appliance.custodian.witnessing import Witnessing
from appliance.custody.generations import Standing, check_record
from appliance.custody.release import Custody
from appliance.custody.slot import SlotRecord
from appliance.errors import Incomplete, IntegrityError, SealedError, UnknownObject
from appliance.gate import Gate, World
from appliance.grants import LiveGrants
from appliance.home import Facts, Home
from appliance.inventory import TALLY, Inventory, event_of
from appliance.isolation import checks, isolated
from appliance.ledger import COUNTER_RAISED, Ledger
from appliance.sandbox import Applied
from appliance.vault import Vault
from audit.entry import JSON, Entry
from audit.errors import AuditError
from audit.log import Committed, Log
from audit.note import VerifierKey
from policy.engine import Engine
from policy.model import Entity

ISOLATION_MAX_AGE_S = 1.0
LOOKED_AT = 32  # headers at an unsealing: some 10 ms


@dataclass(slots=True)
class Core:
    """One appliance at work."""

    home: Home
    facts: Facts
    log: Log
    engine: Engine
    catalog: Catalog
    vault: Vault
    live: LiveGrants
    ledger: Ledger
    monotonic: Callable[[], float] = time.monotonic
    clock: Callable[[], float] = time.time
    since_boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    sysroot: Path = Path("/")
    gate: Gate = field(init=False)
    witnessing: Witnessing = field(init=False)
    allowance: Allowance = field(default_factory=Allowance)
    inventory: Inventory = field(default_factory=Inventory)
    shut: tuple[str, ...] = ()
    """Objects, of some that were looked at when the vault was unsealed, whose headers do not open."""
    rotating: bool = False
    """The vault's identity is being rotated."""
    behind: bool = False
    """An entry was logged whose row could not be written."""
    jail_lacks: tuple[str, ...] = ()
    confined: Applied | None = None
    """What the custodian's own jail came to."""
    ending: str = ""
    """Why this process ends all its workers, once it does."""
    watch_lacks: tuple[str, ...] = ()
    breach: int | None = None
    """The entry of a breach of isolation after which nobody has unsealed the vault yet."""
    look_at_host: Callable[[], bool] | None = None
    """The watch's word on whether the host is isolated; where there is none, the host is read."""
    missing: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    counting: Counting = field(init=False)
    standing: Standing = field(default_factory=lambda: Standing(0, ""))
    """Which slot of the vault is in force, as the log says; the start reads it."""
    _uri_of: tuple[Standing | None, str] = (None, "")
    _custody: Custody | None = None
    _isolated: bool = False
    _isolated_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.witnessing = Witnessing(
            self.log,
            self.home.witness,
            [VerifierKey.parse(text) for text in self.facts.witnesses],
            self.facts.witness_quorum,
            clock=self.clock,
            monotonic=self.monotonic,
        )
        self.gate = Gate(
            self.log,
            self.engine,
            self.catalog,
            self.live,
            world=self.world,
            monotonic=self.monotonic,
            allowance=self.allowance,
            newest=self._newest,
        )

    @property
    def sealed(self) -> bool:
        """Say whether the vault's keys are absent."""
        return self._custody is None

    @property
    def custody(self) -> Custody:
        """The keys; raises SealedError while sealed."""
        if self._custody is None:
            raise SealedError("the vault is sealed: open it with `appliance unseal`")
        return self._custody

    @custody.setter
    def custody(self, opened: Custody) -> None:
        self._custody = opened
        self.shut = self._shut_headers(opened)
        self.log.commit_secret = opened.keyring.entry_secret

    def count_from(self, last: Entry | None, *, continued: bool) -> None:
        """Compare the TPM's counter with the log's last word and raise it; raises RolledBack."""

        def tell(context: Mapping[str, JSON]) -> None:
            resource = f"Appliance:{self.facts.origin}"
            self.gate.outcome(COUNTER_RAISED, "Custodian:custodian", "count", resource, context)

        self.counting = Counting(lambda: self.slot_record.lock, tell, last, continued=continued)
        self.counting.start()

    @property
    def custody_uri(self) -> str:
        """How the vault is unsealed now; read once for each standing, as every decision states it."""
        if self._uri_of[0] != self.standing:
            self._uri_of = (self.standing, self.slot_record.uri)
        return self._uri_of[1]

    @property
    def slot_record(self) -> SlotRecord:
        """How the vault is opened now; raises IntegrityError where the log names another record."""
        return check_record(self.home.keys, self.standing.slot, self.standing.record)

    @property
    def log_alive(self) -> bool:
        """Say whether the log can still be appended to; where not, nothing is released."""
        try:
            self.log.check()
        except AuditError:
            return False
        return True

    def record(
        self,
        kind: str,
        principal: str,
        action: str,
        resource: str,
        context: Mapping[str, JSON],
        *,
        then: Callable[[Committed], object],
        secret: Mapping[str, JSON] | None = None,
    ) -> Committed:
        """Append an entry that changes what lies in the vault, with the tally up to it, `then` its row.

        A row that cannot be written (the catalog is locked, or full) is added by the next `settle`, or at the
        next start: the entry stands.
        """
        self.settle()
        event = event_of(kind, context)
        assert event is not None  # noqa: S101  a kind that changes nothing has no business here
        told = {**context, TALLY: self.inventory.tally.then(event).told()}
        committed = self.gate.outcome(kind, principal, action, resource, told, secret)
        self.inventory.take(event)
        self.behind = True
        then(committed)
        self.behind = False
        return committed

    def _shut_headers(self, opened: Custody) -> tuple[str, ...]:
        """Look at some headers, evenly spread: a vault put back as a whole shows in any of them."""
        names = sorted(set(self.catalog.present()) - set(self.missing))
        some = names[:: max(1, len(names) // LOOKED_AT)]
        return tuple(name for name in some if not _opens(opened, name))

    def settle(self) -> None:
        """Add the row that could not be written, if there is one; raises what kept it from being written."""
        if self.behind:
            catch_up(self.log, self.catalog)
            self.behind = False

    def find(self, kind: str, name: str) -> Object | None:
        """Return the newest object of a name, None where there is none or the log knows another.

        On None ask the gate for the `NamedObject`: it denies, and logs which of the two it is.
        """
        newest = self._newest(kind, name)
        row = self.catalog.find(kind, name)
        return row if row is not None and row.id == newest else None

    def _newest(self, kind: str, name: str) -> str | None:
        self.settle()
        return self.inventory.newest(kind, name)

    def keep_head(self) -> None:
        """Bring the catalog up to the log, and have it remember how far that goes: at the end of a run."""
        with self.catalog.transaction():
            catch_up(self.log, self.catalog)
            keep_head(self.log, self.catalog)

    def warnings(self) -> list[str]:
        """Say in plain words what weakens this appliance, for people and for the log."""
        said = []
        if self.facts.profile == "development":
            said.append(
                "development profile: this host may be on a network, and what it exports is not isolated work"
            )
        if self.custody_uri == "file:":
            said.append("vault keys lie in a file on this disk (file: custody): for demonstrations only")
        if self.facts.log_custody == "file:":
            said.append("the log key lies in a file on this disk: who copies it can sign another log")
        if not self.facts.witnesses:
            said.append("no witness is enrolled: that this log was not set back rests on this host alone")
        elif not self.witnessing.size:
            said.append("no head of this log was witnessed yet: begin with `appliance audit challenge`")
        if self.allowance.is_open:
            said.append("glass is broken: the next job may start however long the log is unwitnessed")
        if self.counting.problem:
            said.append(f"whether this home was set back could not be compared: {self.counting.problem}")
        return [*said, *self._isolation(), *self._damage()]

    def _isolation(self) -> Iterator[str]:
        """Say what is wrong with the watch and the jail, and that a breach sealed the vault."""
        if self.breach is not None:
            yield f"a breach of isolation sealed the vault (log entry {self.breach}): unseal it with a reason"
        if self.watch_lacks:
            yield f"this host lacks for the air-gap watch: {'; '.join(self.watch_lacks)}"
        if self.confined is not None and self.confined.missing:
            yield f"this host lacks for the custodian: {', '.join(self.confined.missing)}"
        if self.jail_lacks:
            yield f"this host lacks for workers: {', '.join(self.jail_lacks)}"

    def _damage(self) -> Iterator[str]:
        """Say what is broken or was lost on the disk."""
        if self.ledger.damage:
            yield f"the log is damaged, so nobody may approve and nothing leaves: {self.ledger.damage}"
        if self.shut:
            yield (
                f"headers in the vault do not open, first {self.shut[0][:16]}: the vault was put back from "
                "before a rotation, or changed; `appliance objects verify` names each: restore them"
            )
        if self.inventory.open_shreddings and not self.rotating:
            yield "an object was shredded, and old headers still open: finish with `appliance keys rotate`"
        if self.inventory.next_recipient is not None and not self.rotating:
            yield "a rotation of the vault's key was cut off: finish it with `appliance keys rotate`"
        if self.missing:
            yield f"{len(self.missing)} objects lack their files, first {self.missing[0][:16]}: restore them"
        if self.orphans:
            yield f"{len(self.orphans)} folders in the vault are no objects, first {self.orphans[0][:16]}"

    def wipe_keys(self) -> None:
        """Overwrite the vault's keys and nothing else; from any thread, also in the middle of their use."""
        self.log.commit_secret = None
        if self._custody is not None:
            self._custody.keyring.wipe()

    def wipe(self) -> None:
        """Overwrite the vault's keys and every live grant."""
        self.log.commit_secret = None
        if self._custody is not None:
            self._custody.wipe()
            self._custody = None

    def world(self) -> World:
        """Return the facts of this moment; the host is looked at again after a second."""
        seen = self.witnessing
        return World(
            self.facts.profile,
            self._is_isolated(),
            self.sealed,
            witnesses=len(seen.witnesses),
            unwitnessed_entries=seen.entries,
            unwitnessed_age_s=seen.age_s,
            witnessed_once=seen.size > 0,
            custody=self.custody_uri,
            log_custody=self.facts.log_custody,
            since_boot_s=int(self.since_boot()) // 60 * 60,
        )

    def _is_isolated(self) -> bool:
        if self.look_at_host is not None:
            return self.look_at_host()
        now = self.monotonic()
        if now - self._isolated_at > ISOLATION_MAX_AGE_S:
            self._isolated = isolated(checks(self.sysroot))
            self._isolated_at = now
        return self._isolated

    def now(self) -> datetime:
        """Return the time in UTC: the wall clock's, or that of the newest entry where it was set back."""
        return max(datetime.fromtimestamp(self.clock(), UTC), self.ledger.clock.now())

    def person(self, uid: int) -> Entity:
        """Return the principal of a uid; one that nobody enrolled has no role, so the rules refuse it."""
        name = self.facts.person_of(uid)
        if name is None:
            return Entity("Person", f"uid-{uid}", {"roles": (), "compartments": (), "uid": uid})
        known = self.officer(name)
        return Entity("Person", name, {**known.attrs, "uid": uid})

    def officer(self, name: str) -> Entity:
        """Return the principal of a signing key: a person by name, wherever they are."""
        attrs = {
            "roles": self.ledger.enrolment.roles.get(name, ()),
            "compartments": self.facts.compartments.get(name, ()),
        }
        return Entity("Person", name, attrs)

    def adopt(self, engine: Engine) -> None:
        """Judge by another set of rules from here on."""
        self.engine = engine
        self.gate.adopt(engine)

    def appliance(self) -> Entity:
        """Return the appliance as a resource."""
        return Entity("Appliance", self.facts.origin, {})


def _opens(custody: Custody, name: str) -> bool:
    try:
        custody.prove(name)
    except (IntegrityError, Incomplete, UnknownObject):
        return False
    return True


def job_entity(
    job: str, owner: str, purpose: str, objects: Iterable[str], compartments: Sequence[str] = ()
) -> Entity:
    """Return a job as a principal: it may use what its decisions named, and knows what its owner knows."""
    attrs = {"owner": owner, "purpose": purpose, "objects": sorted(objects), "compartments": compartments}
    return Entity("Job", job, attrs)
