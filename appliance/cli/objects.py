"""What lies sealed in the vault."""

from __future__ import annotations

import click

from appliance.cli.output import emit_json, emit_table, size_text
from appliance.cli.session import Noun, Session, example, json_option, pass_session

KINDS = ("weights", "config", "corpus", "tokenizer", "optimizer", "report")
SHORT_ID = 16  # enough to tell objects apart on a screen; --json has all of it

kind_option = click.option("--kind", type=click.Choice(KINDS), help="Only objects of this kind.")


@click.group(
    "objects", cls=Noun, invoke_without_command=True, epilog=example("appliance objects --kind weights")
)
@kind_option
@json_option
@click.pass_context
def objects_command(context: click.Context, *, kind: str | None, as_json: bool) -> None:
    """List the sealed objects (`appliance objects` is `appliance objects list`)."""
    if context.invoked_subcommand is None:
        show_objects(context.ensure_object(Session), kind, as_json=as_json)


@objects_command.command("list", epilog=example("appliance objects list --json"))
@kind_option
@json_option
@pass_session
def list_command(session: Session, *, kind: str | None, as_json: bool) -> None:
    """List the sealed objects."""
    show_objects(session, kind, as_json=as_json)


def show_objects(session: Session, kind: str | None, *, as_json: bool) -> None:
    """Print the catalog's objects, one per line or as one JSON array."""
    objects = [item["object"] for item in session.stream("ListObjects", {"kind": kind})]
    if as_json:
        emit_json(objects)
    elif not objects:
        click.echo("no objects yet; `appliance import BUNDLE` brings some in")
    else:
        emit_table(
            ("KIND", "NAME", "VERSION", "SIZE", "ENTRY", "CREATED", "ID"),
            (
                (
                    item["kind"],
                    item["name"],
                    str(item["version"]),
                    size_text(item["size_bytes"]),
                    str(item["log_index"]),
                    item["created"],
                    item["id"][:SHORT_ID],
                )
                for item in objects
            ),
        )
