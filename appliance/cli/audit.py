"""Looking after the audit log: what its keeper does so that others need not trust them."""

from __future__ import annotations

import click

from appliance.cli.output import printable
from appliance.cli.session import Noun, Session, example, pass_session


@click.group("audit", cls=Noun, epilog=example("appliance audit rotate-key --reason 'yearly rotation'"))
def audit_command() -> None:
    """Look after the audit log; `python -m audit` is the auditor's own program."""


@audit_command.command("rotate-key", epilog=example("appliance audit rotate-key --reason 'yearly rotation'"))
@click.option("--reason", required=True, help="Why, for the log.")
@pass_session
def rotate_key_command(session: Session, *, reason: str) -> None:
    """Let a new key sign the log from now on.

    The old key names it in an entry, signs once more, and is destroyed. Auditors go on with the first public
    key that they were given: the log leads from it to the newest.
    """
    reply = session.call("RotateLogKey", {"reason": reason})
    click.echo(
        printable(
            f"epoch {reply['epoch']} of the log's key begins after entry {reply['log_index']}\n"
            f"{reply['vkey']}\n"
            "next: back up the home folder; a backup from before can no longer sign this log"
        )
    )
