"""What commands print: aligned facts and tables for people, ASCII JSON for programs.

Names, reasons and sampled text come from files and models that nobody vouches for. `printable` stands between
them and the terminal, so that an escape sequence in a name stays visible text and moves no cursor.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import click

from appliance.cli.terminal import console, is_terminal, show_facts, show_table

# Categories that move a cursor or reorder a line: controls, formats (bidi), surrogates, line separators.
UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """Return `text` with control and direction characters shown as escapes; newline and tab stay."""
    return "".join(char if char in "\n\t" or _is_safe(char) else _escaped(char) for char in text)


def _is_safe(char: str) -> bool:
    return unicodedata.category(char) not in UNSAFE_CATEGORIES


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def emit_json(value: object) -> None:
    """Print one ASCII JSON document, indented."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def emit_json_line(value: object) -> None:
    """Print one line of a JSON stream; it reaches the reader at once."""
    click.echo(json.dumps(value, separators=(",", ":"), allow_nan=False))


def emit_facts(facts: Sequence[tuple[str, str]], tones: Mapping[str, str] | None = None) -> None:
    """Print name and value pairs, the values aligned; on a terminal `tones` colours some by name."""
    if is_terminal():
        show_facts(console(), [(name, printable(value)) for name, value in facts], tones or {})
        return
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        click.echo(f"{name:<{width}}  {printable(value)}".rstrip())


def emit_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell, two spaces apart."""
    lines = [tuple(headings), *(tuple(printable(cell) for cell in row) for row in rows)]
    if is_terminal():
        show_table(console(), lines[0], lines[1:])
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def size_text(size_bytes: int) -> str:
    """Write a size with a binary unit and at most one decimal: `1.5 MiB`."""
    amount = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
