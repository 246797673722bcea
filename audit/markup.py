"""HTML by construction: text is always escaped, and nothing but this module makes markup.

Guarantees that a name from a log, whatever it holds, arrives in the page as the characters it is made of: no
tag, no attribute, no reordering of the line around it. Source: the HTML Living Standard, section 13.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# Categories that move a cursor or reorder a line: controls, formats (bidi), surrogates, line separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_VOID = frozenset({"meta"})


@dataclass(frozen=True, slots=True)
class Markup:
    """Finished HTML. Only this module makes it from text."""

    html: str


Content: TypeAlias = "str | Markup"


def escaped(text: str) -> str:
    """Write text so that it stays text inside an element and inside a quoted attribute."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSAFE else char
            for char in text
        )
    return html.escape(text, quote=True)


def tag(name: str, /, *children: Content, **attributes: str) -> Markup:
    """Make an element; a trailing or inner `_` in an attribute's name stands for nothing or for `-`."""
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items()
    )
    if name in _VOID:
        return Markup(f"<{name}{listed}>")
    return Markup(f"<{name}{listed}>{join(children).html}</{name}>")


def join(children: Iterable[Content]) -> Markup:
    """Put texts and elements one after the other."""
    return Markup("".join(child.html if isinstance(child, Markup) else escaped(child) for child in children))


def style(css: str) -> Markup:
    """Make the page's style element of this package's own CSS, which is not escaped."""
    if "<" in css:
        raise ValueError("expected CSS without '<', which could end the style element")
    return Markup(f"<style>{css}</style>")


def document(head: Markup, body: Markup) -> bytes:
    """Make a whole page."""
    return f'<!DOCTYPE html>\n<html lang="en">{head.html}{body.html}</html>\n'.encode()


def table(headings: Sequence[str], rows: Iterable[Sequence[Content]]) -> Markup:
    """Make a table whose cells carry their headings, so that a wide one can fold into cards on a phone."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [
        tag("tr", *(tag("td", cell, data_label=label) for label, cell in zip(headings, row, strict=True)))
        for row in rows
    ]
    width = "wide" if len(headings) > 2 else "narrow"
    return tag("table", tag("thead", head), tag("tbody", *body), class_=width)
