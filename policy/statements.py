"""A rule file cut into its rules, so that an error can say on which line the rule begins.

Cedar's parser names no line. Knows of Cedar's grammar what is needed to find where a rule ends: a semicolon
that stands in no string and no comment. Source: Cedar 4, "Grammar specification for policy syntax".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# In this order: what hides a semicolon, a semicolon, blanks, and whatever else stands in a rule. A string
# that does not end hides all that follows, as it does for Cedar.
_TOKEN: Final = re.compile(
    r"""(?P<comment>//[^\n]*)|(?P<text>"(?:[^"\\]|\\.)*(?:"|\Z))|(?P<end>;)|(?P<blank>\s+)|[^"/;\s]+|/""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One rule as it stands in its file; `line` counts from 1."""

    line: int
    text: str


def statements(source: str) -> list[Statement]:
    """Return the rules of a file in order, without the comments before each; a last one may be unfinished."""
    found: list[Statement] = []
    begin, line, seen = -1, 1, 0
    for token in _TOKEN.finditer(source):
        if begin < 0 and token.lastgroup in {"comment", "blank"}:
            continue
        if begin < 0:
            begin = token.start()
            line += source.count("\n", seen, begin)
            seen = begin
        if token.lastgroup == "end":
            found.append(Statement(line, source[begin : token.end()]))
            begin = -1
    if begin >= 0:
        found.append(Statement(line, source[begin:]))
    return found
