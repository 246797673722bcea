"""The end of an object, by two officers' word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance.cli.files import read_text
from appliance.cli.output import emit_json, printable
from appliance.cli.session import Session, Verb, example, json_option, pass_session

SHORT_ID = 16


@click.command("shred", cls=Verb, epilog=example("appliance shred weights/old@3 --request shred.request"))
@click.argument("object_name", metavar="OBJECT")
@click.option(
    "--request",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="Request that two officers approved: `appliance request shred`.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@pass_session
def shred_command(session: Session, *, object_name: str, request: Path, yes: bool, as_json: bool) -> None:
    """Shred OBJECT (its id, KIND/NAME, or KIND/NAME@VERSION): nobody opens it again.

    Its wraps are removed, the vault's key is rotated so that old copies of its header stay shut, and a read
    is tried and fails. Its row and its entries stay. What could still defeat this is printed.
    """
    document = read_text(request, "request")
    if not yes:
        click.confirm(f"Shred {object_name} for good?", abort=True, err=True)
    last: dict[str, Any] = {}
    for last in session.stream("Shred", {"object": object_name, "request": document}):
        if last.get("total") is not None and not as_json:
            click.echo(f"    {last['done']:,} of {last['total']:,} headers", err=True)
    if as_json:
        emit_json({name: last[name] for name in ("id", "log_index", "proof", "descendants", "remains")})
        return
    click.echo(f"shredded: {last['id'][:SHORT_ID]}, log entry {last['log_index']}, proved by {last['proof']}")
    if last["descendants"]:
        click.echo(f"{last['descendants']} objects were made of it and stay: `appliance objects lineage`")
    for each in last["remains"]:
        entry = f" (log entry {each['entry']})" if each["entry"] else ""
        click.echo(printable(f"would still open an old copy of it: {each['what']}, {each['detail']}{entry}"))
    click.echo(
        "next: destroy every copy of keys/ and vault/ from before this, or make the backups anew", err=True
    )
