from __future__ import annotations

import base64
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from audit.account import Account
from audit.cosignature import Cosigner
from audit.errors import BadSignature
from audit.listing import parse_listing
from audit.log import Log
from audit.note import parse_note
from audit.report import Sources, page
from audit.summary import Summary
from audit.verify import verify_log
from tests.audit.story import (
    BEGAN_S,
    CONFIG,
    SECRET,
    WEIGHTS,
    created,
    day,
    decision,
    entries,
    fact,
    listing_text,
    opened,
    use,
)

# All that a page is made of.
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "header",
    "nav",
    "section",
    "div",
    "h1",
    "h2",
    "p",
    "a",
    "b",
    "i",
    "strong",
    "span",
    "code",
    "time",
    "ul",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "svg",
    "rect",
}
MADE = "2026-01-02T03:04:05.000000Z"


class Shape(HTMLParser):
    """Every tag and attribute of a page, and its text by section."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.section, self.text = set(), [], "", {}

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "section":
            self.section = dict(attrs)["id"]

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data + " "


@pytest.fixture
def made(tmp_path, signer):
    """Log records, verify the folder, and make its page; returns the page."""

    def make(records, *, listed=False, cosign=(), witnesses=(), change=lambda note: note, reach=None):
        minutes = iter(range(1000))
        log = Log.create(tmp_path / "log", signer, lambda: BEGAN_S + 60 * next(minutes), commit_secret=SECRET)
        for record in records:
            log.append([record])
        log.close()
        account = Account(parse_listing(listing_text(entries(records)).encode()) if listed else None)
        summary = Summary()

        def observe(entry):
            account.observe(entry)
            summary.observe(entry, account.owner_of)

        report = verify_log(tmp_path / "log", signer.vkey, observe=observe)
        account.finish()
        lines = b"".join(witness.cosign(report.head, int(BEGAN_S)).text.encode() for witness in cosign)
        report = replace(report, note=change(report.note + lines))
        if reach is not None:
            report = replace(report, witnessed=replace(report.head, size=reach), witnessed_note=report.note)
        return page(Sources(report, signer.vkey, summary, account, witnesses, MADE))

    return make


def shape(data):
    reader = Shape()
    reader.feed(data.decode())
    return reader


def text(data, section):
    return " ".join(shape(data).text[section].split())


@pytest.fixture(scope="module")
def witnesses():
    return [Cosigner.from_seed(f"witness.example/{n}", bytes([n]) * 32) for n in (1, 2)]


def test_the_page_asks_for_nothing_and_runs_nothing(made):
    data = made(day())
    found = shape(data)
    assert not found.tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base", "video"}
    names = {name for _, name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on")}
    assert not names & {"style", "src", "srcset", "action", "xlink:href"}
    assert {value[0] for tag, name, value in found.attributes if name == "href"} == {"#"}
    assert b"url(" not in data
    assert b"@import" not in data


def test_its_policy_allows_its_own_style_and_no_more(made):
    data = made(day()).decode()
    css = re.search("<style>(.*?)</style>", data, re.DOTALL)[1]
    digest = base64.b64encode(sha256(css.encode()).digest()).decode()
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', data)
    assert policy == (
        f"default-src &#x27;none&#x27;; style-src &#x27;sha256-{digest}&#x27;; "
        "base-uri &#x27;none&#x27;; form-action &#x27;none&#x27;"
    )
    assert data.index("Content-Security-Policy") < data.index("<style>")


def test_every_link_leads_to_a_section(made):
    found = shape(made(day()))
    targets = {value for _, name, value in found.attributes if name == "id"}
    assert {value[1:] for _, name, value in found.attributes if name == "href"} == targets


def test_an_intact_day_with_its_list_is_answered_yes(made):
    data = made(day(), listed=True)
    top = text(data, "")
    assert "Reads accounted for yes the log and 3 listed objects agree" in top
    assert "34 entries" in top
    assert "Made 2026-01-02 03:04:05 UTC" in top
    assert "Differences 0" in text(data, "accounted")
    assert "was not compared" not in text(data, "accounted")


def test_without_a_list_the_page_says_so(made):
    data = made(day())
    assert "in the log the vault's list was not given" in text(data, "")
    assert "The vault's side was not compared" in text(data, "accounted")


def test_differences_are_named(made):
    data = made([*day(), use("train-9", "77" * 32, "weights/planted")], listed=True)
    assert "Reads accounted for no 2 differences" in text(data, "")
    assert f"34 read-of-unknown entry 34 used {'77' * 32}, which no entry had created" in text(
        data, "accounted"
    )


def test_an_identity_given_out_is_not_answered_yes(made):
    given = decision("Person:operator", "configure", "Appliance:a", setting="recover-identity")
    data = made([*day(), given], listed=True)
    assert "in part the vault's identity was given out" in text(data, "")
    assert "reads without an entry" in text(data, "gaps")


def test_the_day_is_told_in_every_section(made):
    data = made(day())
    assert "weights/tiny e0e0e0e0e0e0e0e0… use operator export job-uses-what-its-decision-named 1 29" in text(
        data, "reads"
    )
    assert "mallory read weights/tiny e0e0e0e0e0e0e0e0… no-rule 1 22" in text(data, "refusals")
    assert "alice (25), bob (27) refused (26), allowed (28)" in text(data, "requests")
    assert "bundle b0b0b0b0b0b0b0b0, 541,000 bytes (entry 30)" in text(data, "requests")
    assert "unseal-failed operator profile isolated; reason secret" in text(data, "events")
    assert (
        "train-2 train config/tiny operator a-rule 2025-06-15 15:19:40 (entry 13) 3 done (entry 21)"
        in text(data, "jobs")
    )
    assert "None was found." in text(data, "gaps")
    assert "34 entries were hashed" in text(data, "basis")
    assert "object-created 3" in text(data, "basis")


def test_a_job_and_a_request_without_an_end_say_so(made):
    start = decision("Person:operator", "train", f"Object:{CONFIG}", job="train-2")
    approval = fact("approved", "Person:alice", "approve", "Request:1", request="1")
    data = made([start, approval])
    assert "no end in the log" in text(data, "jobs")
    assert "0 2025-06-15 15:06:40 no end operator train-2 has no end in the log" in text(data, "gaps")
    assert "not in the log alice (1) none nothing left" in text(data, "requests")


def test_a_refusal_without_reasons_names_its_rule_or_says_that_there_is_none(made):
    data = made(
        [
            decision("Person:a", "read", "Object:x", allow=False, rules=("a-forbid",)),
            decision("Person:b", "read", "Object:x", allow=False, rules=()),
        ]
    )
    assert "a-forbid" in text(data, "refusals")
    assert "no rule permits it" in text(data, "refusals")


def test_an_empty_log_makes_a_page_that_says_so(made):
    data = made([])
    assert "no entry yet" in text(data, "")
    assert "The log is empty." in text(data, "over-time")
    assert "No key was released." in text(data, "reads")
    assert "Nothing was refused." in text(data, "refusals")
    assert "Nobody asked for an export." in text(data, "requests")


def test_what_does_not_fit_is_counted(made, monkeypatch):
    monkeypatch.setattr("audit.summary.ROWS", 2)
    monkeypatch.setattr("audit.account.MAX_NAMED", 2)
    data = made([use("train-2", f"{number:064x}", f"weights/{number}") for number in range(5)])
    assert "and 8 differences more, not shown here; python -m audit show lists all" in text(data, "accounted")
    assert "and 3 released keys more" in text(data, "reads")


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\u202egnp.exe", "</style><b>"]
)
def test_a_hostile_name_stays_text_wherever_it_stands(made, hostile):
    records = [
        fact("genesis", hostile, hostile, hostile, custody=hostile, reason=hostile),
        fact("started", hostile, hostile, hostile, warnings=[hostile]),
        decision(hostile, "train", f"Object:{hostile}", job=hostile, rules=[hostile], object_name=hostile),
        opened(hostile, WEIGHTS, hostile, hostile),
        created(hostile, WEIGHTS, hostile, hostile),
        use(hostile, hostile, hostile),
        decision(hostile, "read", hostile, allow=False, rules=[hostile], reasons=[hostile]),
        fact("request-made", hostile, hostile, hostile, request=hostile, action=hostile, reason=hostile),
        fact("approved", hostile, hostile, hostile, request=hostile),
        decision(hostile, "export", hostile, request=hostile, recipient=hostile, job=hostile),
        fact("bundle-exported", hostile, hostile, hostile, request=hostile, bundle=hostile, job=hostile),
        fact("jail", hostile, hostile, hostile, job=hostile, missing=[hostile]),
        decision(hostile, "configure", hostile, setting=hostile),
    ]
    data = made(records)
    found = shape(data)
    assert found.tags <= TAGS
    assert not {name for _, name, _ in found.attributes if name.startswith("on")}
    assert hostile.encode() not in data
    shown = hostile if hostile.isascii() else "\\u202egnp.exe"
    sections = ("reads", "refusals", "requests", "events", "jobs", "gaps")
    assert [name for name in sections if shown not in found.text[name]] == []


def test_a_head_that_nobody_cosigned_says_so(made, witnesses):
    data = made(day(), witnesses=[witnesses[0].vkey])
    assert "Witnesses 0" in text(data, "")
    assert "Nobody else signed this tree head" in text(data, "witnesses")
    assert "witness.example/1" in text(data, "witnesses")
    assert "never did not sign this head" in text(data, "witnesses")


def test_cosignatures_are_checked_against_the_keys_given(made, witnesses):
    data = made(day(), cosign=witnesses, witnesses=[witnesses[0].vkey])
    said = text(data, "witnesses")
    assert "Witnesses 2" in text(data, "")
    assert "This tree head covers all 34 entries" in said
    ids = [witness.vkey.key_id.hex() for witness in witnesses]
    assert f"witness.example/1 {ids[0]} 2025-06-15 15:06:40 holds" in said
    assert f"witness.example/2 {ids[1]} 2025-06-15 15:06:40 not checked: its key was not given" in said


def test_a_witnessed_head_says_how_far_it_reaches(made, witnesses):
    data = made(day(), cosign=witnesses, witnesses=[witnesses[0].vkey], reach=9)
    assert "This tree head covers the first 9 of 34 entries" in text(data, "witnesses")


def test_a_wrong_cosignature_by_a_given_witness_makes_no_page(made, witnesses):
    def break_last(note):
        text, lines = parse_note(note)
        broken = replace(lines[-1], blob=lines[-1].blob[:-1] + bytes([lines[-1].blob[-1] ^ 1]))
        return (text + "\n" + "".join(line.text for line in [*lines[:-1], broken])).encode()

    with pytest.raises(BadSignature, match=r"signature by witness\.example/1 does not fit"):
        made(day(), cosign=witnesses[:1], witnesses=[witnesses[0].vkey], change=break_last)


def test_a_time_that_no_calendar_has_is_no_time(made, witnesses):
    def far(note):
        text, lines = parse_note(note)
        odd = replace(lines[-1], blob=b"\xff" * 8 + lines[-1].blob[8:])
        return (text + "\n" + "".join(line.text for line in [*lines[:-1], odd])).encode()

    assert "no time not checked" in text(made(day(), cosign=witnesses[:1], change=far), "witnesses")
