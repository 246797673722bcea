"""The manual pages and the reference, written out of the same commands that print their help.

Pages are man(7) macros, one for each command, and `appliance.1` for the whole; the reference is one Markdown
page. Equal programs write equal bytes: no date stands in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from appliance import __version__
from appliance.cli.failures import exit_codes
from appliance.cli.files import write_new
from appliance.cli.output import printable
from appliance.cli.reference import Page, pages
from appliance.cli.session import Verb, example

Sections = Sequence[tuple[str, Sequence[Page]]]


@click.command("manual", cls=Verb, epilog=example("appliance manual --out ~/.local/share/man/man1"))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the manual pages, made if absent; with --markdown the file to write.",
)
@click.option("--markdown", is_flag=True, help="Write the reference as one page of Markdown instead.")
def manual_command(*, out: Path, markdown: bool) -> None:
    """Write the manual pages into a folder, one for each command, or the reference as one page.

    Nothing is overwritten.
    """
    sections = list(pages())
    if markdown:
        write_new(out, reference_text(sections).encode())
        click.echo(printable(str(out)))
        return
    out.mkdir(parents=True, exist_ok=True)
    texts = man_pages(sections)
    for name, text in texts.items():
        write_new(out / name, text.encode())
    click.echo(printable(f"{out}: {len(texts)} pages; `man {out / 'appliance.1'}` shows the first"))


def man_pages(sections: Sections) -> dict[str, str]:
    """Return the text of each manual page by its file name."""
    found = {"appliance.1": _whole(sections)}
    for _, listed in sections:
        for page in listed:
            found[f"{page.name.replace(' ', '-')}.1"] = _page(page)
    return found


def _whole(sections: Sections) -> str:
    lines = [
        *_head("appliance", "train language models on weights that stay encrypted at rest"),
        *(".SH SYNOPSIS", r"\fBappliance\fR [\fB\-\-home\fR FOLDER] [\fB\-\-debug\fR] COMMAND ..."),
    ]
    for title, listed in sections:
        lines.append(f".SH {_roff(title.upper())}")
        for page in listed:
            if page.name.count(" ") == 1:
                lines += [".TP", rf"\fB{_roff(page.name.replace(' ', '-'))}\fR(1)", _roff(page.summary)]
    lines.append(".SH EXIT STATUS")
    for code, meaning in exit_codes():
        lines += [".TP", rf"\fB{code}\fR", _roff(meaning)]
    return "\n".join(lines) + "\n"


def _page(page: Page) -> str:
    lines = [
        *_head(page.name.replace(" ", "-"), page.summary),
        ".SH SYNOPSIS",
        _roff(page.usage),
        ".SH DESCRIPTION",
    ]
    for number, paragraph in enumerate(page.paragraphs):
        lines += [*([".PP"] if number else []), _roff(paragraph)]
    for title, rows in (
        ("OPTIONS", [(each.usage, each.help) for each in page.options]),
        ("COMMANDS", page.verbs),
    ):
        if rows:
            lines.append(f".SH {title}")
        for name, text in rows:
            lines += [".TP", rf"\fB{_roff(name)}\fR", _roff(text) or r"\&"]
    lines += [".SH EXAMPLE", ".nf", _roff(page.example), ".fi", ".SH SEE ALSO", r"\fBappliance\fR(1)"]
    return "\n".join(lines) + "\n"


def _head(name: str, summary: str) -> list[str]:
    title = f'.TH {name.upper()} 1 "" "training-appliance {__version__}" "Training appliance"'
    return [title, ".SH NAME", rf"{_roff(name)} \- {_roff(summary)}"]


def _roff(text: str) -> str:
    """Write text so that roff prints it as it is, also where a line begins with a control character."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(rf"\&{line}" if line[:1] in {".", "'"} else line for line in escaped.splitlines())


def reference_text(sections: Sections) -> str:
    """Return the reference: each command with its usage, options and example, then the exit codes."""
    lines = [
        "# Commands",
        "",
        "Written by `make reference` out of the program itself; a test compares the two. Every command knows",
        "`--help`; `--home` and `--debug` may stand before or after the verb.",
    ]
    for title, listed in sections:
        lines += ["", f"## {title}"]
        for page in listed:
            lines += [
                "",
                f"### `{page.name}`",
                "",
                *_separated(page.paragraphs),
                "",
                "```",
                page.usage,
                "```",
            ]
            rows = [*((each.usage, each.help) for each in page.options), *page.verbs]
            if rows:
                lines += [
                    "",
                    "| | |",
                    "|---|---|",
                    *(f"| `{_cell(name)}` | {_cell(text)} |" for name, text in rows),
                ]
            lines += ["", f"Example: `{page.example}`"]
    lines += ["", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {_cell(meaning)} |" for code, meaning in exit_codes()]
    return "\n".join(lines) + "\n"


def _separated(paragraphs: Sequence[str]) -> list[str]:
    return [line for number, text in enumerate(paragraphs) for line in ([""] if number else []) + [text]]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
