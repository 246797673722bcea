from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.markup import document, escaped, join, style, table, tag


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.values = [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data):
        self.text += data


def read(markup):
    reader = Reader()
    reader.feed(markup.html)
    reader.close()
    return reader


@given(st.text())
def test_no_text_becomes_a_tag_or_leaves_its_attribute(text):
    found = read(tag("p", text, title=text))
    assert found.tags == ["p"]
    assert len(found.values) == 1


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"])))
def test_what_can_be_printed_arrives_as_it_is(text):
    found = read(tag("p", text, title=text))
    assert (found.text, found.values) == (text, [text])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\" onload='x'", "&quot; onload=&#x27;x&#x27;"),
        ("a\u202ecba", "a\\u202ecba"),
        ("\x1b[2J\x00\n", "\\x1b[2J\\x00\\n"),
        ("&amp;", "&amp;amp;"),
        ("größe", "größe"),
    ],
)
def test_what_could_steer_the_page_is_shown_instead(text, shown):
    assert escaped(text) == shown


def test_elements_nest_and_attributes_keep_their_names():
    made = tag("meta", http_equiv="x", class_="y").html + join([tag("b", "x"), "<"]).html
    assert made == '<meta http-equiv="x" class="y"><b>x</b>&lt;'


def test_a_table_folds_by_the_headings_that_its_cells_carry():
    made = table(("A", "B", "C"), [("1", tag("b", "2"), "3")]).html
    assert '<td data-label="B"><b>2</b></td>' in made
    assert made.startswith('<table class="wide">')
    assert table(("A", "B"), []).html.startswith('<table class="narrow">')
    with pytest.raises(ValueError, match="zip"):
        table(("A", "B"), [("1",)])


def test_css_that_could_end_its_element_is_refused():
    assert style("a{}").html == "<style>a{}</style>"
    with pytest.raises(ValueError, match="expected CSS without '<'"):
        style("</style>")


def test_a_document_begins_as_html():
    assert document(tag("head"), tag("body")) == (
        b'<!DOCTYPE html>\n<html lang="en"><head></head><body></body></html>\n'
    )
