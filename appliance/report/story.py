"""What a job's log entries tell people: who decided and approved what, and which keys were released."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.report.sources import Row
from audit.entry import Entry

RELEASING = ("use", "verify", "open")
_QUIET = {"output-opened", "object-created", "object-named", "approved"}
_TOLD_OF = ("reason", "recipient", "state", "step", "bytes", "content", "expires")
MAX_ROWS = 400


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that somebody decided, asked, approved or did."""

    index: int
    time: str
    what: str
    who: str
    on: str
    verdict: str
    detail: str


@dataclass(frozen=True, slots=True)
class Release:
    """Keys of one object that were released: for what, how often, between which entries."""

    on: str
    action: str
    times: int
    first: int
    last: int


def acts_of(entries: Sequence[Entry], objects: Mapping[str, Row]) -> tuple[list[Act], int]:
    """Return decisions, requests, checkpoints and ends, oldest first, and how many more there are."""
    told = [entry for entry in entries if not _is_release(entry) and entry.kind not in _QUIET]
    return [_act(entry, objects) for entry in told[:MAX_ROWS]], max(0, len(told) - MAX_ROWS)


def releases_of(entries: Sequence[Entry], objects: Mapping[str, Row]) -> list[Release]:
    """Return which keys were released, an object and an action a row."""
    found: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        if _is_release(entry):
            found.setdefault((entry.resource, entry.action), []).append(entry.seq)
    return [
        Release(_named(resource, objects), action, len(at), at[0], at[-1])
        for (resource, action), at in found.items()
    ]


def kinds_of(entries: Sequence[Entry]) -> list[tuple[str, int]]:
    """Count entries by kind, which is all of them once."""
    return sorted(Counter(entry.kind for entry in entries).items())


def people(principal: str) -> str:
    """Write who acted as people say it."""
    kind, _, name = principal.partition(":")
    return name if kind in {"Person", "Custodian"} else principal


def moment(time: str) -> str:
    """Write a time to the second, without the letters of RFC 3339."""
    return time[:19].replace("T", " ")


def _is_release(entry: Entry) -> bool:
    decided = entry.decision
    return entry.action in RELEASING and decided is not None and decided.allow


def _act(entry: Entry, objects: Mapping[str, Row]) -> Act:
    decided = entry.decision
    what = entry.action if entry.kind == "decision" else entry.kind
    verdict = "" if decided is None else "allowed" if decided.allow else "refused"
    rules = ", ".join((*decided.policies, *decided.reasons)) if decided is not None else ""
    facts = [
        f"{name} {entry.context[name]}" for name in _TOLD_OF if entry.context.get(name) not in (None, "")
    ]
    detail = "; ".join(part for part in (rules, *facts) if part)
    on = _named(entry.resource, objects, str(entry.context.get("object_name", "")))
    return Act(entry.seq, moment(entry.time), what, people(entry.principal), on, verdict, detail)


def _named(resource: str, objects: Mapping[str, Row], name: str = "") -> str:
    kind, _, rest = resource.partition(":")
    if (row := objects.get(rest)) is not None:
        return f"{row['kind']} {row['name']}, version {row['version']}"
    if name:
        return name
    kind = "job" if kind == "JobRecord" else kind.lower()
    return f"{kind} {rest[:24]}" if rest else kind
