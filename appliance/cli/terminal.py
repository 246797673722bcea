"""What only a terminal gets: colour, and lines that fold at its width. Files and pipes get plain text.

`rich` lives here and in `live`, loaded when something is drawn. NO_COLOR leaves the colours out, and COLUMNS
says how wide the terminal is. Text reaches it as text: no markup, no emoji codes, no highlighting.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

GAP = 2
LEAST_COLUMNS = 60


def is_terminal() -> bool:
    """Say whether standard output is a terminal that can move its cursor."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def console() -> Console:
    """Return standard output as a console; narrower than 60 columns counts as 60."""
    from rich.console import Console  # noqa: PLC0415  loaded only where a terminal is drawn on

    made = Console(markup=False, emoji=False, highlight=False)
    return (
        made
        if made.width >= LEAST_COLUMNS
        else Console(markup=False, emoji=False, highlight=False, width=LEAST_COLUMNS)
    )


def show_facts(on: Console, facts: Sequence[tuple[str, str]], tones: Mapping[str, str]) -> None:
    """Print name and value pairs, values folded in their own column; `tones` colours values by name."""
    from rich.table import Table  # noqa: PLC0415  as above
    from rich.text import Text  # noqa: PLC0415  as above

    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in facts:
        grid.add_row(name, Text(value, style=tones.get(name, "")))
    on.print(grid)


def show_table(on: Console, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print columns where they fit side by side, and each line as facts of its own where they do not."""
    widths = [max(len(line[column]) for line in (headings, *lines)) for column in range(len(headings))]
    if sum(widths) + GAP * (len(widths) - 1) > on.width:
        for number, line in enumerate(lines):
            if number:
                on.print()
            show_facts(on, [(name.lower(), cell) for name, cell in zip(headings, line, strict=True)], {})
        return
    for line, style in ((headings, "bold"), *((line, "") for line in lines)):
        padded = (" " * GAP).join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        on.print(padded.rstrip(), style=style, no_wrap=True)
