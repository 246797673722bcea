"""Where an appliance keeps its things, and the public facts that name it.

`home.json` repeats the genesis entry of the log. It is a cache: `Facts.digest` is compared with the
digest in the genesis entry whenever the appliance starts, and a difference refuses to start.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from appliance.egress import check_budgets
from appliance.errors import Busy, IntegrityError, UnknownObject, UsageError
from policy.errors import PolicyError
from policy.quorum import check_quorums

FORMAT = 1
PROFILES = ("isolated", "development")
MAX_FACTS_BYTES = 256 * 1024
CHANGED = "differs from what the log's genesis entry names"


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one appliance."""

    root: Path

    @property
    def facts(self) -> Path:
        """Public facts, a cache of the genesis entry."""
        return self.root / "home.json"

    @property
    def keys(self) -> Path:
        """Custody slots."""
        return self.root / "keys"

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.root / "log"

    @property
    def vault(self) -> Path:
        """Sealed objects."""
        return self.root / "vault"

    @property
    def catalog(self) -> Path:
        """The catalog's database."""
        return self.root / "catalog.db"

    @property
    def policy(self) -> Path:
        """Rules and schema in force."""
        return self.root / "policy"

    @property
    def officers(self) -> Path:
        """OpenSSH allowed-signers file."""
        return self.root / "officers"

    @property
    def run(self) -> Path:
        """Socket and lock."""
        return self.root / "run"

    @property
    def quarantine(self) -> Path:
        """Parts of bundles under import."""
        return self.root / "quarantine"

    @property
    def witness(self) -> Path:
        """Tree heads that were shown to witnesses."""
        return self.root / "witness"

    @property
    def jobs(self) -> Path:
        """Receipts kept with each job."""
        return self.root / "jobs"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the genesis entry says about an appliance; nothing in it is secret."""

    format: int
    origin: str
    profile: str
    log_vkey: str
    log_pq_vkey: str
    bundle_vkey: str
    export_key_pem: str
    vault_recipient: str
    transfer_recipient: str
    custody: str
    log_custody: str
    policy_set: str
    officers_sha256: str
    trust: tuple[str, ...]
    witnesses: tuple[str, ...]
    witness_quorum: int
    people: Mapping[str, str]
    roles: Mapping[str, tuple[str, ...]]
    compartments: Mapping[str, tuple[str, ...]]
    recovery: str
    quorums: Mapping[str, Mapping[str, int]]
    budgets: Mapping[str, Mapping[str, int]]
    root: str = ""

    def canonical(self) -> bytes:
        """Return sorted ASCII JSON: what `digest` hashes and `home.json` holds."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode("ascii")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical form, hex."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def bundle_name(self) -> str:
        """Name of the key that signs outgoing bundles."""
        return self.bundle_vkey.partition("+")[0]

    def person_of(self, uid: int) -> str | None:
        """Return the enrolled person of a uid, or None."""
        return self.people.get(str(uid))


@contextmanager
def undisturbed(home: Home) -> Iterator[None]:
    """Keep daemons from working in a home meanwhile; raises Busy where one does."""
    with ExitStack() as held:
        if (home.run / "lock").exists():
            fd = os.open(home.run / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            held.callback(os.close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as taken:
                raise Busy(f"a daemon runs in {home.root}: end it with `appliance shutdown`") from taken
        yield


def write_facts(home: Home, facts: Facts) -> None:
    """Write `home.json` durably, by rename."""
    scratch = home.facts.with_suffix(".new")
    with scratch.open("wb") as out:
        out.write(facts.canonical() + b"\n")
        out.flush()
        os.fsync(out.fileno())
    scratch.rename(home.facts)


def read_facts(home: Home) -> Facts:
    """Read `home.json`.

    Raises UnknownObject where there is no appliance, IntegrityError where the file is not one we wrote.
    """
    try:
        with home.facts.open("rb") as source:
            raw = source.read(MAX_FACTS_BYTES + 1)
    except FileNotFoundError as missing:
        message = f"no appliance in {home.root}: make one with `appliance init`"
        raise UnknownObject(message) from missing
    return parse_facts(raw, str(home.facts))


def read_officers(home: Home, sha256: str) -> str:
    """Read the allowed-signers file; raises IntegrityError unless its digest is the one that the log names.

    Asked at every use, not at the start alone: who may approve must not be exchanged under a running daemon.
    """
    data = home.officers.read_bytes() if home.officers.exists() else b""
    if hashlib.sha256(data).hexdigest() != sha256:
        raise IntegrityError(f"{home.officers} {CHANGED}: restore it, or it is not known who may approve")
    return data.decode("utf-8")


def parse_facts(raw: bytes, where: str) -> Facts:
    """Parse canonical facts; the bytes must be exactly what `canonical` writes."""
    try:
        if len(raw) > MAX_FACTS_BYTES:
            raise ValueError("too large")
        value = json.loads(raw)
        if set(value) != {field.name for field in fields(Facts)}:
            raise ValueError("unexpected fields")
        value["trust"] = tuple(value["trust"])
        value["witnesses"] = tuple(value["witnesses"])
        for field in ("roles", "compartments"):
            value[field] = {name: tuple(given) for name, given in value[field].items()}
        check_quorums(value["quorums"])
        if check_budgets(value["budgets"]) != value["budgets"]:
            raise ValueError("budgets that are not whole")
        facts = Facts(**value)
        if type(facts.format) is not int or facts.format != FORMAT or facts.profile not in PROFILES:
            raise ValueError("another format or profile")
        least, most = min(1, len(facts.witnesses)), len(facts.witnesses)
        if type(facts.witness_quorum) is not int or not least <= facts.witness_quorum <= most:
            raise ValueError("a quorum that its witnesses cannot reach")
        if facts.canonical() != raw.removesuffix(b"\n"):
            raise ValueError("not canonical")
    except (ValueError, TypeError, AttributeError, RecursionError, PolicyError, UsageError) as broken:
        message = f"{where} is damaged ({broken}): restore it from the log's genesis entry or a backup"
        raise IntegrityError(message) from broken
    return facts
