"""From a backup to an appliance that goes on under a new log."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli.output import emit_facts, emit_json
from appliance.cli.session import Session, Verb, example, json_option, pass_session


@click.command("restore-log", cls=Verb, epilog=example("appliance restore-log --from backup/home"))
@click.option(
    "--from",
    "backup",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Home folder as the backup has it; it is only read.",
)
@click.option("--origin", help="Name of the new log, unique in the world; made up if left out.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@pass_session
def restore_log_command(
    session: Session, *, backup: Path, origin: str | None, yes: bool, as_json: bool
) -> None:
    """Make an appliance of a backup, with a new log that names the old one.

    The old log may have gone on after the backup, so nothing is ever added to the copy of it. Works offline.
    """
    if not yes:
        click.confirm(f"Make an appliance in {session.home} of the one in {backup}?", abort=True, err=True)
    from appliance.restore import restore  # noqa: PLC0415  loads cryptography, policy and log

    made = restore(backup, session.home, origin=origin)
    facts = {
        "origin": made.origin,
        "log_vkey": made.log_vkey,
        "log_pq_vkey": made.log_pq_vkey,
        "tree_head": made.tree_head,
        "earlier_origin": made.earlier.head.origin,
        "earlier_size": made.earlier.head.size,
        "carried": made.carried,
    }
    if as_json:
        emit_json(facts)
        return
    emit_facts([(name, str(value).strip()) for name, value in facts.items() if value])
    click.echo(
        "next: give auditors the new log key and tree head, and keep the old log's key: it still verifies"
    )
