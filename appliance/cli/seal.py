"""Opening and closing the vault."""

from __future__ import annotations

from contextlib import closing

import click

from appliance.cli.passphrase import as_pipe, obtain, passphrase_fd_option
from appliance.cli.session import Session, Verb, example, pass_session, without_nulls

ASKS_A_PERSON = "passphrase:"  # the one kind of custody that asks a person for a text


@click.command("unseal", cls=Verb, epilog=example("appliance unseal --reason 'weekly run'"))
@passphrase_fd_option
@click.option("--reason", help="Why, for the log.")
@pass_session
def unseal_command(session: Session, *, passphrase_fd: int | None, reason: str | None) -> None:
    """Open the vault with the unseal secret, which is asked on the terminal."""
    with closing(session.connect()) as client:
        custody = str(client.call("Status", {})["custody"])
        parameters = without_nulls({"reason": reason})
        if passphrase_fd is None and not custody.startswith(ASKS_A_PERSON):
            client.call("Unseal", parameters)
        else:
            with as_pipe(obtain(passphrase_fd, "passphrase")) as secret_fd:
                client.call("Unseal", {**parameters, "secret_fd": 0}, [secret_fd])
    click.echo(f"unsealed (custody {custody})")


@click.command("seal", cls=Verb, epilog=example("appliance seal --reason 'end of shift'"))
@click.option("--reason", help="Why, for the log.")
@pass_session
def seal_command(session: Session, *, reason: str | None) -> None:
    """Close the vault: its keys leave memory, and jobs that need them end."""
    session.call("Seal", {"reason": reason})
    click.echo("sealed")
