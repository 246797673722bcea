"""The answer to: is every read of every object accounted for.

The log's creations, reads and exports are held against each other, and against the vault's list of objects,
both ways. Guarantees whoever compares that each difference is counted, and the first of them named:

    1. each object of the list was created by the entry that it names, with the same facts   planted objects
    2. each object that the log created is in the list                                       lost, hidden ones
    3. each key released was for an object that the log had made before                      unexplained reads
    4. each key released to a job follows an allowed decision that began this job            unasked jobs
    5. each export follows an allowed decision, and the approvals that it counted            lack of consent

KNOWN: the log proves what an intact custodian released. Whoever holds the vault's identity and the disk can
read without an entry; entries that gave the identity out are counted as `recovered`. Memory grows with the
number of objects, jobs and requests, not with that of entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from audit.entry import JSON, Entry
from audit.errors import CouldNotCheck
from audit.filter import text_of, texts_of
from audit.listing import Listed

# What the appliance's entries are called.
READS = frozenset({"use", "verify", "open"})  # the actions that release a key
STARTS = frozenset(
    {"train", "sample", "evaluate", "replay", "account", "export", "import", "create"}
)  # these decisions begin a job
DECISION = "decision"
OPENED = "output-opened"
CREATED = "object-created"
ENDED = {"object-shredded": "shredded", "object-retired": "retired"}
APPROVED = "approved"
EXPORTED = "bundle-exported"
RECOVERY = "recover-identity"

# Tuning: differences that are named; the others are counted.
MAX_NAMED = 200
# Tuning: some hundred bytes each; more would want more memory than a laptop has.
_MAX_FOLLOWED = 1_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not accounted for: its class, the entry (or None), and a sentence."""

    code: str
    index: int | None
    text: str


@dataclass(slots=True)
class Account:
    """What was counted so far. `observe` each entry in order, then `finish`."""

    listed: Mapping[str, Listed] | None = None
    created: int = 0
    reads: int = 0
    exports: int = 0
    recovered: int = 0
    unfinished: int = 0
    differences: int = 0
    named: list[Difference] = field(default_factory=list)
    _objects: set[str] = field(default_factory=set)
    _staged: set[str] = field(default_factory=set)
    _ended: dict[str, str] = field(default_factory=dict)
    _jobs: dict[str, tuple[str, str]] = field(default_factory=dict)
    _approvals: dict[str, set[str]] = field(default_factory=dict)
    _agreed: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def observe(self, entry: Entry) -> None:
        """Take one entry into account; raises CouldNotCheck where there are too many things to follow."""
        if entry.decision is not None:
            if entry.decision.allow:
                self._observe_allowed(entry)
        elif entry.kind == OPENED:
            self._staged.add(_object_of(entry))
        elif entry.kind == CREATED:
            self._observe_created(entry)
        elif entry.kind in ENDED:
            self._ended.update(dict.fromkeys(_ended_by(entry), ENDED[entry.kind]))
        elif entry.kind == APPROVED:
            request = text_of(entry.context, "request")
            self._approvals.setdefault(request, set()).add(entry.principal.partition(":")[2])
        elif entry.kind == EXPORTED:
            self._observe_exported(entry)
        followed = (self._objects, self._staged, self._ended, self._jobs, self._approvals)
        if sum(len(things) for things in followed) > _MAX_FOLLOWED:
            raise CouldNotCheck(f"expected at most {_MAX_FOLLOWED} objects, jobs and requests, found more")

    def finish(self) -> None:
        """Look for what the list has and the log has not; call once, after the last entry."""
        self.unfinished = len(self._staged)
        for item in (self.listed or {}).values():
            if item.id not in self._objects:
                self._differ(
                    "not-in-log",
                    None,
                    f"{_told(item)} is in the vault's list; no entry of the log created it",
                )
            elif item.state != (ended := self._ended.get(item.id, "ready")):
                self._differ(
                    "differs", None, f"{_told(item)} is {item.state} in the vault's list, in the log {ended}"
                )

    def counts(self) -> dict[str, int]:
        """Return what was counted, by name."""
        return {
            "created": self.created,
            "reads": self.reads,
            "exports": self.exports,
            "recovered": self.recovered,
            "unfinished": self.unfinished,
            "differences": self.differences,
        }

    def told(self) -> str:
        """Say on one line what was counted and whether it is accounted for."""
        counts = f"objects created {self.created}, keys released {self.reads}, exports {self.exports}"
        listed = "no list given" if self.listed is None else f"objects listed {len(self.listed)}"
        given = f", vault's identity given out {self.recovered}" if self.recovered else ""
        return f"{counts}{given}, {listed}; differences {self.differences}"

    def owner_of(self, job: str) -> str:
        """Who asked for a job, or "" where the log does not say."""
        return self._jobs.get(job, ("", ""))[0]

    def _observe_allowed(self, entry: Entry) -> None:
        job = text_of(entry.context, "job")
        if entry.action in READS:
            self._observe_read(entry, job)
        elif entry.action in STARTS and job:
            self._jobs[job] = (entry.principal, entry.action)
            if entry.action == "export":
                counted = entry.context.get("approvals")
                request = text_of(entry.context, "request")
                self._agreed[job] = (_object_of(entry), request, counted if isinstance(counted, int) else 0)
                self._count_approvals(entry, request, self._agreed[job][2])
        elif text_of(entry.context, "setting") == RECOVERY:
            self.recovered += 1

    def _observe_read(self, entry: Entry, job: str) -> None:
        self.reads += 1
        kind, _, name = entry.resource.partition(":")
        if entry.action == "verify" and name not in self._staged:
            self._differ(
                "read-of-unknown", entry.seq, f"entry {entry.seq} verified {name}, which no entry had opened"
            )
        if entry.action == "use" and name in self._ended:
            text = f"entry {entry.seq} used {name}, which was {self._ended[name]} before"
            self._differ("read-after-end", entry.seq, text)
        if entry.action == "use" and name not in self._objects:
            self._differ(
                "read-of-unknown", entry.seq, f"entry {entry.seq} used {name}, which no entry had created"
            )
        if job not in self._jobs:
            text = (
                f"entry {entry.seq} released {kind} {name} to job {job or '(none)'}, which no decision began"
            )
            self._differ("read-without-start", entry.seq, text)

    def _observe_created(self, entry: Entry) -> None:
        self.created += 1
        name = _object_of(entry)
        if name in self._objects:
            self._differ("created-twice", entry.seq, f"entry {entry.seq} created {name} once more")
        if name not in self._staged:
            text = f"entry {entry.seq} created {name}, for which no key had been made"
            self._differ("created-without-key", entry.seq, text)
        self._objects.add(name)
        self._staged.discard(name)
        if self.listed is None:
            return
        item = self.listed.get(name)
        if item is None:
            what = f"{text_of(entry.context, 'kind')} {text_of(entry.context, 'name')} ({name})"
            text = (
                f"{what}, created by entry {entry.seq} at {entry.time}, is not in the vault's list "
                "(was the list made before?)"
            )
            self._differ("not-in-list", entry.seq, text)
        elif wrong := _differing(item, entry):
            text = f"{_told(item)} differs from the entry {entry.seq} that created it: {'; '.join(wrong)}"
            self._differ("differs", entry.seq, text)

    def _observe_exported(self, entry: Entry) -> None:
        self.exports += 1
        found = self._agreed.get(text_of(entry.context, "job"))
        if found is None or found[:2] != (_object_of(entry), text_of(entry.context, "request")):
            text = f"entry {entry.seq} exported {_object_of(entry)} without an allowed decision"
            self._differ("export-without-decision", entry.seq, text)

    def _count_approvals(self, entry: Entry, request: str, counted: int) -> None:
        requester = text_of(entry.context, "requester")
        people = self._approvals.get(request, set()) - {requester}
        missing = sorted(set(texts_of(entry.context, "approvers")) - people)
        if len(people) < counted or missing:
            text = (
                f"entry {entry.seq} allowed an export on {counted} approvals; the log has {len(people)}"
                + (f", none by {', '.join(missing)}" if missing else "")
            )
            self._differ("export-without-approval", entry.seq, text)

    def _differ(self, code: str, index: int | None, text: str) -> None:
        self.differences += 1
        if len(self.named) < MAX_NAMED:
            self.named.append(Difference(code, index, text))


def _object_of(entry: Entry) -> str:
    return entry.resource.partition(":")[2]


def _ended_by(entry: Entry) -> Sequence[str]:
    """Which objects an entry ended: the one it is about, or all that it lists."""
    return texts_of(entry.context, "objects") or (text_of(entry.context, "object"),)


def _told(item: Listed) -> str:
    return f"{item.kind} {item.name} ({item.id})"


def _differing(item: Listed, entry: Entry) -> list[str]:
    """Compare a row with the entry that created it, except what was too long for the entry."""
    said = entry.context
    pairs: Sequence[tuple[str, JSON, JSON]] = (
        ("kind", item.kind, said.get("kind")),
        ("name", item.name, said.get("name")),
        ("version", item.version, said.get("version")),
        ("size_bytes", item.size_bytes, said.get("size")),
        ("sha256", item.sha256, said.get("payload_sha256")),
        ("parents", list(item.parents), said.get("parents")),
        ("compartments", list(item.compartments), said.get("compartments")),
        ("job", item.job, said.get("job")),
        ("log_index", item.log_index, entry.seq),
        ("created", item.created, entry.time),
    )
    return [
        f"{name}: the list has {str(listed)[:80]}, the log {str(logged)[:80]}"
        for name, listed, logged in pairs
        if listed != logged and not (isinstance(logged, dict) and logged.keys() == {"sha256", "size"})
    ]
