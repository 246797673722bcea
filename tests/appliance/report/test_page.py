"""The page on a job: self-contained, in one look with the page on the log, and deaf to hostile names."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from appliance.report.page import page
from appliance.report.sources import Samples
from tests.appliance.report.telling import entries, sources

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
    "g",
    "rect",
    "line",
    "polygon",
    "text",
    "figure",
    "img",
    "figcaption",
    "blockquote",
    "cite",
}


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


def shape(data):
    reader = Shape()
    reader.feed(data.decode())
    return reader


def text(data, section):
    return " ".join(shape(data).text[section].split())


def test_the_page_asks_for_nothing_and_runs_nothing():
    found = shape(page(sources()))
    assert found.tags <= TAGS
    assert not {
        name for _, name, _ in found.attributes if name.startswith("on") or name in {"style", "srcset"}
    }
    images = [value for _, name, value in found.attributes if name == "src"]
    assert len(images) == 5
    assert all(value.startswith("data:image/svg+xml;base64,") for value in images)
    assert {value[0] for _, name, value in found.attributes if name == "href"} == {"#"}


def test_its_policy_allows_its_own_style_and_pictures_and_no_more():
    data = page(sources()).decode()
    css = re.search("<style>(.*?)</style>", data, re.DOTALL)[1]
    digest = base64.b64encode(sha256(css.encode()).digest()).decode()
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', data)
    assert policy == (
        f"default-src &#x27;none&#x27;; style-src &#x27;sha256-{digest}&#x27;; img-src data:; "
        "base-uri &#x27;none&#x27;; form-action &#x27;none&#x27;"
    )
    assert css.startswith(files("audit").joinpath("report.css").read_text("utf-8"))  # one look


def test_pictures_are_plain_shapes_and_equal_for_equal_curves():
    first, again = page(sources()), page(sources())
    assert first == again
    for value in re.findall(b"base64,([A-Za-z0-9+/=]+)", first):
        svg = base64.b64decode(value).decode()
        assert "<script" not in svg
        assert not re.search(r'href="(?!#)', svg)
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|<!DOCTYPE[^>]*>', "", svg)


def test_every_link_leads_to_a_section():
    found = shape(page(sources()))
    targets = {value for tag, name, value in found.attributes if (tag, name) == ("section", "id")}
    assert {value[1:] for _, name, value in found.attributes if name == "href"} == targets


def test_a_job_is_told_in_every_section():
    data = page(sources())
    assert "Held out 4.000 bits per byte, newest" in text(data, "")
    assert "Training 4.472 bits per byte, newest" in text(data, "")
    assert "Loss against floating-point operations" in text(data, "learning")
    assert "Throughput" in text(data, "speed")
    assert "version 1, 2026-01-02 03:04:05 the log first" in text(data, "samples")
    assert "corpus first" in text(data, "lineage")
    assert "Approved by alice (entry 22), bob (entry 23)." in text(data, "decisions")
    assert "refused export-needs-two-officers" in text(data, "decisions")
    assert "corpus first, version 1 use 2 11 … 12" in text(data, "keys")
    assert "Each of the 10 entries" in text(data, "verified")
    assert "head over the first 28 entries was also signed by: Witness" in text(data, "verified")


def test_what_is_not_there_or_not_to_be_seen_is_said():
    bare = replace(
        sources(),
        events=[],
        account=None,
        why_no_account="operator may not account JobRecord x: no-rule-permits",
        samples=Samples("", (), "No sample text is kept."),
        proof=replace(sources().proof, cosigned=None),
        entries=entries()[1:4],
        left_out=7,
    )
    data = page(bare)
    assert "No figures of this run are left" in text(data, "learning")
    assert "not shown: operator may not account" in text(data, "learning")
    assert "Neither was kept" in text(data, "speed")
    assert "No sample text is kept." in text(data, "samples")
    assert "Nobody was asked for an approval" in text(data, "decisions")
    assert "No witness signed a head" in text(data, "verified")
    assert "and 7 entries more" in text(data, "verified")
    assert "Held out \N{EN DASH} bits per byte" in text(data, "")


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "\u202egnp.exe",
        "</style><b>",
        "{{ 7 * 7 }}",
        "$\\frac{1}{0}$",
    ],
)
def test_a_hostile_name_stays_text_wherever_it_stands(hostile):
    data = page(sources(hostile))
    found = shape(data)
    assert found.tags <= TAGS
    assert not {name for _, name, _ in found.attributes if name.startswith("on")}
    if not hostile.isalnum() and set(hostile) & set("<\u202e"):
        assert hostile.encode() not in data
    shown = hostile if hostile.isascii() else "\\u202egnp.exe"
    sections = ("", "samples", "lineage", "decisions", "keys")
    assert [name for name in sections if shown not in found.text[name]] == []
