"""One page on what a log tells, for people: self-contained HTML without a script, to be kept and printed.

Guarantees whoever opens it that the page asks for nothing: no script, no image, no font, no request (its
own Content-Security-Policy forbids them), and that no text of the log becomes markup (`audit.markup`). What
it says rests on entries that the log's key signed; what it cannot know it says as well.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from audit.account import Account
from audit.bounded import Span
from audit.chart import chart
from audit.cosignature import verify_cosignatures
from audit.entry import format_time
from audit.markup import Content, Markup, document, join, style, table, tag
from audit.note import VerifierKey, parse_note
from audit.summary import Asked, Event, Job, Summary
from audit.verify import Report

_LATEST_S = 253_402_300_799  # the last second of the year 9999
_SHORT = 30


@dataclass(frozen=True, slots=True)
class Sources:
    """What a page is made of; `made` is the time to put on it, `witnesses` whose cosignatures to check."""

    report: Report
    key: VerifierKey
    summary: Summary
    account: Account
    witnesses: Sequence[VerifierKey]
    made: str


def page(sources: Sources) -> bytes:
    """Make the page, UTF-8; raises BadSignature for a wrong cosignature by a witness that was named."""
    css = files("audit").joinpath("report.css").read_text("utf-8")
    digest = base64.b64encode(sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"Audit of {sources.report.head.origin}"),
        style(css),
    )
    present = _cosigners(sources)
    sections = (
        ("over-time", "Over time", _over_time(sources)),
        ("accounted", "Is every read of every object accounted for?", _accounted(sources.account)),
        ("reads", "What was read, by whom, under which rule", _reads(sources.summary)),
        ("refusals", "Refusals", _refusals(sources.summary)),
        ("requests", "Approvals and exports", _requests(sources.summary)),
        ("events", "Custody and isolation", _events(sources.summary)),
        ("jobs", "Jobs", _jobs(sources.summary)),
        ("witnesses", "Witnesses", _witnesses(sources, present)),
        ("gaps", "Gaps", _gaps(sources.summary)),
        ("basis", "What this rests on, and what it cannot show", _basis(sources)),
    )
    links = tag("nav", *(tag("a", title, href=f"#{name}") for name, title, _ in sections))
    body = (tag("section", tag("h2", title), *parts, id=name) for name, title, parts in sections)
    return document(head, tag("body", tag("main", *_top(sources, len(present)), links, *body)))


def _top(sources: Sources, cosigners: int) -> list[Markup]:
    report, summary, account = sources.report, sources.summary, sources.account
    period = (
        f"{_moment(report.first_time)} to {_moment(report.last_time)} UTC" if report.size else "no entry yet"
    )
    gaps = len(summary.gaps.rows) + summary.gaps.left_out
    cards = (
        ("Log", "holds", f"{report.size} entries, root {report.root.hex()[:16]}…", "good"),
        ("Reads accounted for", *_answer(account)),
        ("Keys released", str(account.reads), "for objects and bundles", ""),
        ("Refusals", str(summary.refused), "decisions that denied", "bad" if summary.refused else ""),
        ("Exports", str(summary.exports), "bundles that left", "open" if summary.exports else ""),
        ("Gaps", str(gaps), "stretches to be explained", "bad" if gaps else "good"),
        ("Witnesses", str(cosigners), "others who signed this head", "good" if cosigners else "open"),
    )
    shown = (
        tag("div", tag("b", name), tag("strong", value), tag("span", note), class_=f"card {kind}".strip())
        for name, value, note, kind in cards
    )
    return [
        tag(
            "header",
            tag("p", "Audit report", class_="over"),
            tag("h1", report.head.origin),
            tag(
                "p",
                f"{period}. Made {_moment(sources.made)} UTC with the public key ",
                _code(sources.key.text),
            ),
        ),
        tag("div", *shown, class_="cards"),
    ]


def _answer(account: Account) -> tuple[str, str, str]:
    if account.differences:
        return "no", f"{account.differences} differences", "bad"
    if account.recovered:
        return "in part", "the vault's identity was given out", "bad"
    if account.listed is None:
        return "in the log", "the vault's list was not given", "open"
    return "yes", f"the log and {len(account.listed)} listed objects agree", "good"


def _over_time(sources: Sources) -> list[Markup]:
    if not sources.report.size:
        return [_none("The log is empty.")]
    note = "Times are the appliance's own clock's. A stretch without entries continues what was said last."
    return [chart(sources.summary.timeline), _small(note)]


def _accounted(account: Account) -> list[Markup]:
    counts = (
        ("Objects created in the log", account.created),
        ("Objects in the vault's list", "not given" if account.listed is None else len(account.listed)),
        ("Keys released (use, verify, open)", account.reads),
        ("Exports", account.exports),
        ("Outputs begun and never created", account.unfinished),
        ("Times the vault's identity was given out", account.recovered),
        ("Differences", account.differences),
    )
    parts = [table(("What", "How many"), [(name, str(count)) for name, count in counts])]
    if account.named:
        rows = [(_index(each.index), each.code, each.text) for each in account.named]
        parts.append(table(("Entry", "Difference", "What is not accounted for"), rows))
        parts += _left_out(account.differences - len(account.named), "differences")
    if account.listed is None:
        parts.append(
            _small(
                "The vault's side was not compared: hand over what appliance objects list --json "
                "prints with --objects."
            )
        )
    parts.append(
        _small(
            "Compared: every object of the list with the entry that created it, and the other way round; "
            "every released key with an object created before and an allowed decision that began its job; "
            "every export with its decision and approvals."
        )
    )
    return parts


def _reads(summary: Summary) -> list[Markup]:
    rows = [
        (
            _name(read.name, read.object),
            read.action,
            _who(read.person),
            read.purpose,
            ", ".join(read.rules),
            *_span(span),
        )
        for read, span in sorted(summary.reads, key=lambda row: (row[0].name, row[0].object, row[1].first))
    ]
    headings = ("Object", "Action", "On behalf of", "For", "Rule", "Times", "Entries", "Last")
    return [
        *_table(headings, rows, "No key was released."),
        *_left_out(summary.reads.left_out, "released keys"),
    ]


def _refusals(summary: Summary) -> list[Markup]:
    rows = [
        (
            _who(what.principal),
            what.action,
            _name(what.name, what.resource),
            ", ".join(what.reasons) or ", ".join(what.rules) or "no rule permits it",
            *_span(span),
        )
        for what, span in summary.refusals
    ]
    headings = ("Who", "Action", "On", "Why", "Times", "Entries", "Last")
    return [
        *_table(headings, rows, "Nothing was refused."),
        *_left_out(summary.refusals.left_out, "refusals"),
    ]


def _requests(summary: Summary) -> list[Markup]:
    headings = ("Request", "What", "Asked by", "Approved by", "Decisions", "Recipient", "Left as")
    rows = [_request(asked) for asked in summary.requests]
    return [
        *_table(headings, rows, "Nobody asked for an export."),
        *_left_out(summary.requests.left_out, "older requests"),
    ]


def _request(asked: Asked) -> Sequence[Content]:
    approvals = ", ".join(f"{_who(person)} ({index})" for person, index in asked.approvals) or "nobody"
    decisions = ", ".join(
        f"{'allowed' if allow else 'refused'} ({index})" for allow, index in asked.decisions
    )
    left = "nothing left"
    if asked.exported is not None:
        left = f"bundle {asked.bundle[:16]}, {asked.bytes:,} bytes (entry {asked.exported})"
    what = f"{asked.action} {asked.object}" + (f": {asked.reason}" if asked.reason else "")
    asker = _who(asked.requester) or "not in the log"
    return _id(asked.id), what, asker, approvals, decisions or "none", _id(asked.recipient), left


def _events(summary: Summary) -> list[Markup]:
    headings = ("Entry", "Time", "Event", "Who", "What")
    return [
        *_table(headings, [_event(event) for event in summary.events], "No event."),
        *_left_out(summary.events.left_out, "older events"),
    ]


def _event(event: Event) -> Sequence[Content]:
    return _index(event.index), _when(event.time), event.kind, _who(event.principal), event.text


def _jobs(summary: Summary) -> list[Markup]:
    rows = [_job(job) for job in summary.jobs]
    headings = ("Job", "What", "Asked by", "Rule", "Begun", "Keys", "Ended")
    return [
        *_table(headings, rows, "No job was begun."),
        *_left_out(summary.jobs.left_out, "older jobs"),
    ]


def _job(job: Job) -> Sequence[Content]:
    ended: Content = (
        tag("b", "no end in the log") if job.ended is None else f"{job.state} (entry {job.ended})"
    )
    begun = join([_when(job.begun_time), f" (entry {job.begun})"])
    what = join([f"{job.action} ", job.name or _name("", job.object)])
    return job.id, what, _who(job.person), ", ".join(job.rules), begun, str(job.reads), ended


def _cosigners(sources: Sources) -> list[Sequence[Content]]:
    """List who else signed the witnessed head: a row each, the given witnesses' signatures checked."""
    note = sources.report.witnessed_note or sources.report.note
    found = verify_cosignatures(note, sources.witnesses)
    checked = {each.witness.key_id for each in found}
    rows: list[Sequence[Content]] = []
    for line in parse_note(note)[1]:
        if line.name != sources.key.name:
            seconds = int.from_bytes(line.blob[:8], "big")
            when = _when(format_time(seconds)) if 0 < seconds <= _LATEST_S else "no time"
            verdict = "holds" if line.key_id in checked else "not checked: its key was not given"
            rows.append((line.name, line.key_id.hex(), when, verdict))
    return rows


def _witnesses(sources: Sources, present: Sequence[Sequence[Content]]) -> list[Markup]:
    ids = {str(row[1]) for row in present}
    missing = [key for key in sources.witnesses if key.key_id.hex() not in ids]
    size = sources.report.size
    seen = size if sources.report.witnessed is None else sources.report.witnessed.size
    covered = f"all {size}" if seen == size else f"the first {seen} of {size}"
    said = (
        f"This tree head covers {covered} entries. Each of these saw it at its own time:"
        if present
        else "Nobody else signed this tree head: that it is the only history which the log's key signed "
        "rests on the appliance alone. Receipts and bundles kept elsewhere show more."
    )
    absent: list[Sequence[Content]] = [
        (key.name, key.key_id.hex(), "never", tag("b", "did not sign this head")) for key in missing
    ]
    rows = [*present, *absent]
    headings = ("Witness", "Key", "Time", "Signature")
    return [tag("p", said, class_="" if present else "none"), *([table(headings, rows)] if rows else [])]


def _gaps(summary: Summary) -> list[Markup]:
    unended = [job for job in summary.jobs if job.ended is None]
    rows = [_event(event) for event in summary.gaps]
    rows += [
        (
            _index(job.begun),
            _when(job.begun_time),
            "no end",
            _who(job.person),
            f"{job.id} has no end in the log",
        )
        for job in unended
    ]
    headings = ("Entry", "Time", "Gap", "Who", "What has to be explained")
    return [
        *_table(headings, rows, "None was found."),
        *_left_out(summary.gaps.left_out, "older gaps"),
    ]


def _basis(sources: Sources) -> list[Markup]:
    report = sources.report
    kinds = sorted(report.kinds.items())
    return [
        tag(
            "p",
            f"All {report.size} entries were hashed and read in sequence; {report.tiles} files of tiles and "
            f"{report.partials} superseded partial ones equal them; nothing else lies between; the root ",
            _code(report.root.hex()),
            f" is the one that the key signed. {report.allowed} decisions allowed, {report.denied} denied.",
        ),
        tag(
            "ul",
            tag(
                "li",
                "The log proves which keys an intact custodian released, not that nobody read otherwise.",
            ),
            tag("li", "Who holds the vault's identity and the disk can read and leave no entry."),
            tag("li", "A folder set back to an earlier state passes, unless a later head is held elsewhere."),
            tag("li", "Times are the word of the appliance's clock; the order of the entries is proven."),
        ),
        table(("Kind of entry", "How many"), [(kind, str(count)) for kind, count in kinds]),
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[Content]], nothing: str) -> list[Markup]:
    return [table(headings, rows)] if rows else [_none(nothing)]


def _left_out(count: int, what: str) -> Iterator[Markup]:
    if count:
        yield tag(
            "p", f"and {count} {what} more, not shown here; python -m audit show lists all", class_="more"
        )


def _span(span: Span) -> tuple[Content, Content, Content]:
    entries = str(span.first) if span.first == span.last else f"{span.first} … {span.last}"
    return str(span.count), entries, _when(span.last_time)


def _name(name: str, resource: str) -> Markup:
    kind, _, rest = resource.partition(":")
    return tag("span", name or kind, " ", _id(rest))


def _id(text: str) -> Markup:
    return tag("code", text if len(text) <= _SHORT else f"{text[:16]}…", title=text)


def _code(text: str) -> Markup:
    return tag("code", text)


def _who(principal: str) -> str:
    kind, _, name = principal.partition(":")
    return name if kind in {"Person", "Custodian"} else principal


def _index(index: int | None) -> str:
    return "–" if index is None else str(index)  # noqa: RUF001  a dash for people


def _when(time: str) -> Markup:
    return tag("time", _moment(time))


def _moment(time: str) -> str:
    return time[:19].replace("T", " ")


def _none(text: str) -> Markup:
    return tag("p", text, class_="none")


def _small(text: str) -> Markup:
    return tag("p", text, class_="small")
