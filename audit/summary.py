"""What a log tells, gathered in one pass: reads, refusals, requests, events, jobs, states over time, gaps.

Guarantees constant memory, and that every entry is at least counted: a kind that this program does not know
is listed as an event. Pure: the entries come from the verifier, so this is as good as the signed head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from audit.account import APPROVED, CREATED, EXPORTED, OPENED, READS, RECOVERY, STARTS
from audit.bounded import Recent, Tally
from audit.entry import Entry
from audit.filter import text_of, texts_of
from audit.timeline import ISOLATED, NOT_ISOLATED, OFF, ON, OPEN, SEALED, State, Timeline

# Tuning: rows that a page can show and a person can read.
ROWS = 500

# Entries that have a table of their own, or stand for a step between others that do.
_TOLD_ELSEWHERE = {OPENED, CREATED, APPROVED, EXPORTED, "object-named", "job-ended", "bundle-imported"} | {
    "request-made",
    "request-used",
    "model-signed",
}
# Events whose context is known, and what of it is told; of others, all that is short enough.
_LIFE = {"genesis", "started", "ended", "unsealed", "sealed", "unseal-failed"}
_WORDS = ("profile", "custody", "reason")
_MOST_WORDS, _LONGEST = 12, 80
_JOB_ENDS = {"job-ended", "bundle-imported", EXPORTED}


@dataclass(frozen=True, slots=True)
class Read:
    """What keys were released for: the object, the action, on whose behalf, for what, under which rules."""

    object: str
    name: str
    action: str
    person: str
    purpose: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was refused: to whom, what, on what, by which rules and for which reasons."""

    principal: str
    action: str
    resource: str
    name: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Job:
    """One job from the decision that began it to the entry that ended it."""

    id: str
    person: str
    action: str
    object: str
    name: str
    begun: int
    begun_time: str
    rules: tuple[str, ...]
    reads: int = 0
    state: str = ""
    ended: int | None = None


@dataclass(slots=True)
class Asked:
    """One request for approvals: who asked for what, who approved, what came of it."""

    id: str
    action: str = ""
    requester: str = ""
    object: str = ""
    reason: str = ""
    approvals: list[tuple[str, int]] = field(default_factory=list)
    decisions: list[tuple[bool, int]] = field(default_factory=list)
    recipient: str = ""
    bundle: str = ""
    bytes: int = 0
    exported: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to the appliance itself."""

    index: int
    time: str
    kind: str
    principal: str
    text: str


@dataclass(slots=True)
class Summary:
    """What was gathered so far; `observe` each entry in order."""

    reads: Tally[Read] = field(default_factory=lambda: Tally(ROWS))
    refusals: Tally[Refusal] = field(default_factory=lambda: Tally(ROWS))
    requests: Recent[Asked] = field(default_factory=lambda: Recent(ROWS))
    events: Recent[Event] = field(default_factory=lambda: Recent(ROWS))
    gaps: Recent[Event] = field(default_factory=lambda: Recent(ROWS))
    jobs: Recent[Job] = field(default_factory=lambda: Recent(ROWS))
    names: Recent[str] = field(default_factory=lambda: Recent(20 * ROWS))
    timeline: Timeline = field(default_factory=Timeline)
    state: State = field(default_factory=State)
    exports: int = 0
    refused: int = 0
    _time: str = ""
    _seconds: float = 0.0
    _after: str = ""

    def observe(self, entry: Entry, owner_of: Callable[[str], str]) -> None:
        """Take one entry in; `owner_of` tells who began a job."""
        self._keep_time(entry)
        allowed = None if entry.decision is None else entry.decision.allow
        if entry.decision is not None:
            self._observe_state(entry)
            if entry.decision.allow:
                self._observe_allowed(entry, owner_of)
            else:
                self._observe_refused(entry)
        else:
            self._observe_fact(entry)
        self.timeline.add(self._seconds, self.state, allowed=allowed)
        self._time = max(self._time, entry.time)
        self._after = entry.kind

    def _keep_time(self, entry: Entry) -> None:
        if entry.time < self._time:
            self._gap(entry, "clock", f"the clock went back from {self._time}: times from here on overlap")
        try:
            self._seconds = datetime.fromisoformat(entry.time).timestamp()
        except ValueError:  # the 31st of February: counted where the last entry was
            self._gap(entry, "clock", f"{entry.time} is no time")

    def _observe_state(self, entry: Entry) -> None:
        isolated, sealed = entry.context.get("isolated"), entry.context.get("sealed")
        isolation = self.state.isolation
        if isinstance(isolated, bool):
            isolation = ISOLATED if isolated else NOT_ISOLATED
        if isolation != self.state.isolation:
            before = f"was {self.state.isolation}" if self.state.isolation else "first stated"
            self._event(entry, "isolation", f"{isolation} ({before})", "Appliance")
        vault = self.state.vault
        if isinstance(sealed, bool):
            vault = SEALED if sealed else OPEN
        self.state = State(ON, vault, isolation)

    def _observe_allowed(self, entry: Entry, owner_of: Callable[[str], str]) -> None:
        context = entry.context
        job, rules = text_of(context, "job"), entry.decision.policies if entry.decision else ()
        name = self._name_of(entry)
        if entry.action in READS:
            person = owner_of(job) or entry.principal
            purpose = job.partition("-")[0]
            self.reads.add(Read(entry.resource, name, entry.action, person, purpose, rules), entry)
            if job in self.jobs.rows:
                self.jobs.rows[job].reads += 1
        elif entry.action in STARTS and job and job not in self.jobs.rows:
            begun = Job(
                job, entry.principal, entry.action, entry.resource, name, entry.seq, entry.time, rules
            )
            self.jobs.add(job, begun)
        if entry.action == "export":
            self._observe_export_decision(entry, allow=True)
        if setting := text_of(context, "setting"):
            self._event(entry, "configure", setting, entry.principal)
            if setting == RECOVERY:
                text = "the vault's identity was given out: who has it and the disk reads without an entry"
                self._gap(entry, "identity", text)

    def _observe_refused(self, entry: Entry) -> None:
        self.refused += 1
        decision = entry.decision
        rules, reasons = (decision.policies, decision.reasons) if decision else ((), ())
        what = Refusal(entry.principal, entry.action, entry.resource, self._name_of(entry), rules, reasons)
        self.refusals.add(what, entry)
        if entry.action == "export":
            self._observe_export_decision(entry, allow=False)

    def _observe_export_decision(self, entry: Entry, *, allow: bool) -> None:
        request = text_of(entry.context, "request")
        asked = self._asked(request)
        asked.decisions.append((allow, entry.seq))
        del asked.decisions[:-20]  # somebody may try for ever
        asked.recipient = text_of(entry.context, "recipient") or asked.recipient

    def _observe_fact(self, entry: Entry) -> None:
        context = entry.context
        request = text_of(context, "request")
        if entry.kind == CREATED:
            name = f"{text_of(context, 'kind')}/{text_of(context, 'name')}"
            self.names.add(entry.resource, name)
        elif entry.kind == "request-made":
            asked = self._asked(request)
            asked.action, asked.requester = text_of(context, "action"), entry.principal
            asked.object, asked.reason = self._name_of(entry) or entry.resource, text_of(context, "reason")
        elif entry.kind == APPROVED:
            asked = self._asked(request)
            asked.approvals.append((entry.principal, entry.seq))
            del asked.approvals[:-20]
        elif entry.kind == EXPORTED:
            self.exports += 1
            asked = self._asked(request)
            size = context.get("bytes")
            asked.bundle, asked.exported = text_of(context, "bundle"), entry.seq
            asked.bytes = size if isinstance(size, int) else 0
        elif entry.kind == "jail":
            if missing := texts_of(context, "missing"):
                self._gap(entry, "jail", f"{text_of(context, 'job')} ran without {', '.join(missing)}")
        elif entry.kind not in _TOLD_ELSEWHERE:
            self._observe_event(entry)
        job = self.jobs.rows.get(text_of(context, "job"))
        if entry.kind in _JOB_ENDS and job is not None:
            job.state, job.ended = text_of(context, "state") or "done", entry.seq

    def _observe_event(self, entry: Entry) -> None:
        names = _WORDS if entry.kind in _LIFE else sorted(entry.context)
        said = [(name, entry.context.get(name)) for name in names]
        told = [
            f"{name} {str(value)[:_LONGEST]}"
            for name, value in said
            if value and isinstance(value, str | int)
        ]
        text = "; ".join([*told[:_MOST_WORDS], *texts_of(entry.context, "warnings")])
        self._event(entry, entry.kind, text, entry.principal)
        if entry.kind == "started":
            if self.state.power == ON and self._after != "sealed":
                text = f"started without an end before: a crash, a kill or a power cut after {self._time}"
                self._gap(entry, "cut off", text)
            self.state = State(ON, SEALED)
        elif entry.kind == "ended":
            self.state = State(OFF, SEALED)
        elif entry.kind in {"sealed", "unsealed"}:
            self.state = replace(self.state, vault=SEALED if entry.kind == "sealed" else OPEN)
        elif entry.kind == "log.full":
            self._gap(
                entry, "log full", "the disk was full: the log stopped here, and with it everything else"
            )

    def _asked(self, request: str) -> Asked:
        found = self.requests.rows.get(request)
        return found if found is not None else self.requests.add(request, Asked(request))

    def _name_of(self, entry: Entry) -> str:
        return text_of(entry.context, "object_name") or self.names.rows.get(entry.resource, "")

    def _event(self, entry: Entry, kind: str, text: str, principal: str) -> None:
        event = Event(entry.seq, entry.time, kind, principal, text)
        self.events.add(f"{entry.seq} {kind}", event)

    def _gap(self, entry: Entry, kind: str, text: str) -> None:
        self.gaps.add(f"{entry.seq} {kind}", Event(entry.seq, entry.time, kind, entry.principal, text))
