"""Every command as values, read off the commands themselves: the one source of help, manual and reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click

from appliance.cli.root import SECTIONS

_EXAMPLE = "Example:"


@dataclass(frozen=True, slots=True)
class Option:
    """One option or argument: how it is written, and what it means; arguments say nothing."""

    usage: str
    help: str


@dataclass(frozen=True, slots=True)
class Page:
    """One command: its full name, one line, its text in paragraphs, options, example, and verbs below it."""

    name: str
    summary: str
    usage: str
    paragraphs: tuple[str, ...]
    options: tuple[Option, ...]
    example: str
    verbs: tuple[tuple[str, str], ...]


def pages() -> Iterator[tuple[str, tuple[Page, ...]]]:
    """Yield each section's title with its commands, groups before their verbs."""
    for title, entries in SECTIONS:
        yield (
            title,
            tuple(page for entry in entries for page in _walk(entry.load(), f"appliance {entry.name}")),
        )


def _walk(command: click.Command, name: str) -> Iterator[Page]:
    yield page_of(command, name)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            yield from _walk(child, f"{name} {child.name}")


def _is_told(usage: str, text: str) -> bool:
    """Leave out arguments, which the usage shows, and what every command has."""
    return bool(text) and not usage.endswith("--help")


def page_of(command: click.Command, name: str) -> Page:
    """Read one command."""
    context = click.Context(command, info_name=name)
    records = [each.get_help_record(context) for each in command.get_params(context)]
    paragraphs = tuple(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    verbs = command.commands.values() if isinstance(command, click.Group) else ()
    return Page(
        name=name,
        summary=command.get_short_help_str(limit=120),
        usage=" ".join((name, *command.collect_usage_pieces(context))),
        paragraphs=paragraphs,
        options=tuple(Option(*each) for each in records if each is not None and _is_told(*each)),
        example=(command.epilog or "").partition(_EXAMPLE)[2].strip(),
        verbs=tuple((f"{name} {each.name}", each.get_short_help_str(limit=120)) for each in verbs),
    )
