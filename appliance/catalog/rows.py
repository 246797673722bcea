"""The catalog's values. A row that exists passed its checks: ids have their shape, numbers are not negative.

Times are RFC 3339 in UTC, sizes bytes of plaintext, `sha256` that of the payload file (ciphertext),
`log_index` the entry that the row is a cache of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from appliance.errors import IntegrityError

OBJECT_KINDS = ("weights", "config", "corpus", "tokenizer", "optimizer", "report")
OBJECT_STATES = ("ready", "staged", "shredded")
JOB_STATES = ("queued", "running", "stopped", "done", "failed")
REQUEST_STATES = ("open", "used")
VAULT_KEY_KINDS = ("vault-key-begun", "vault-key-rotated")

_HEX_256 = re.compile(r"[0-9a-f]{64}")
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Object:
    """One sealed, immutable object of the vault; a new version of a name is a new object."""

    id: str
    kind: str
    name: str
    version: int
    size: int
    sha256: str
    log_index: int
    created: str
    compartments: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    """Ids of the objects it was made from, in the order given."""
    state: str = "ready"
    job: str = ""
    """The job that made it; empty for none."""
    meta: Mapping[str, object] = field(default_factory=lambda: _NOTHING, hash=False)

    @property
    def retired(self) -> bool:
        """Whether its bytes have left the vault; the row stays, because later objects name it."""
        return "retired" in self.meta

    @property
    def gone(self) -> bool:
        """Whether its bytes have left the vault, by rule or by two officers' word."""
        return self.retired or self.state == "shredded"

    def __post_init__(self) -> None:
        """Raise IntegrityError for a value that no entry could have given."""
        _hex("object id", self.id)
        _hex("object sha256", self.sha256)
        _one_of("object kind", self.kind, OBJECT_KINDS)
        _one_of("object state", self.state, OBJECT_STATES)
        _at_least("object version", self.version, 1)
        _at_least("object size", self.size, 0)
        _at_least("object log index", self.log_index, 0)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of a shredded object: the entry that says so, and its time."""

    object: str
    log_index: int
    time: str


@dataclass(frozen=True, slots=True)
class VaultKey:
    """A rotation of the vault's identity that began or ended, to this public half."""

    log_index: int
    kind: str
    recipient: str

    def __post_init__(self) -> None:
        """Raise IntegrityError for a value that no entry could have given."""
        _one_of("vault key", self.kind, VAULT_KEY_KINDS)
        _at_least("vault key log index", self.log_index, 0)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved training state: the ids of its weights and its optimizer, after `step` steps."""

    step: int
    weights: str
    optimizer: str
    retired: bool = False
    """Whether its objects have left the vault."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a worker for one person; `config` and the lists hold object ids."""

    id: str
    name: str
    owner: str
    config: str
    log_index: int
    created: str
    state: str = "queued"
    step: int = 0
    steps: int = 0
    reason: str = ""
    corpora: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    """Oldest first."""

    @property
    def kept(self) -> tuple[Checkpoint, ...]:
        """The checkpoints whose objects are in the vault, oldest first."""
        return tuple(each for each in self.checkpoints if not each.retired)

    def __post_init__(self) -> None:
        """Raise IntegrityError for a value that no job can have."""
        _one_of("job state", self.state, JOB_STATES)
        _at_least("job step", self.step, 0)
        _at_least("job steps", self.steps, 0)
        _at_least("job log index", self.log_index, 0)


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A canonical request document that officers sign; good for one use. `id` is its SHA-256."""

    id: str
    document: bytes
    requester: str
    created: str
    log_index: int
    state: str = "open"

    def __post_init__(self) -> None:
        """Raise IntegrityError for a value that no request can have."""
        _hex("request id", self.id)
        _one_of("request state", self.state, REQUEST_STATES)
        _at_least("request log index", self.log_index, 0)


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's signature on one request."""

    request: str
    person: str
    role: str
    signature: str
    log_index: int


@dataclass(frozen=True, slots=True)
class LastBundle:
    """The newest bundle accepted in one channel from one role: what a replay is measured against."""

    seq: int
    digest: str
    """SHA-256 of its manifest, hex."""
    published: bool = True


def _hex(what: str, found: object) -> None:
    if not (isinstance(found, str) and _HEX_256.fullmatch(found)):
        raise IntegrityError(f"catalog, {what}: expected 64 lower-case hex digits, found {str(found)[:80]!r}")


def _one_of(what: str, found: object, allowed: tuple[str, ...]) -> None:
    if found not in allowed:
        raise IntegrityError(
            f"catalog, {what}: expected one of {', '.join(allowed)}, found {str(found)[:80]!r}"
        )


def _at_least(what: str, found: object, least: int) -> None:
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise IntegrityError(f"catalog, {what}: expected an integer of at least {least}, found {found!r}")
