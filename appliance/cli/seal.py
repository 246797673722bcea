"""Opening and closing the vault."""

from __future__ import annotations

import time
from contextlib import closing

import click

from appliance.cli.ceremony import obtain_secret
from appliance.cli.passphrase import as_pipe, obtain, passphrase_fd_option
from appliance.cli.session import Session, Verb, example, pass_session, without_nulls
from appliance.client import SOCKET_NAME
from appliance.errors import NotRunning
from appliance.home import Home

RETURN_TIMEOUT_S = 60.0  # the fresh process checks the log before it listens
POLL_S = 0.05


@click.command("unseal", cls=Verb, epilog=example("appliance unseal --reason 'weekly run'"))
@passphrase_fd_option
@click.option("--recovery", is_flag=True, help="Give the offline recovery identity instead.")
@click.option("--reason", help="Why, for the log.")
@pass_session
def unseal_command(
    session: Session, *, passphrase_fd: int | None, recovery: bool, reason: str | None
) -> None:
    """Open the vault: passphrase, PIN or shares are asked on the terminal, a TPM answers by itself."""
    with closing(session.connect()) as client:
        status = client.call("CustodyStatus", {})
        parameters = without_nulls({"reason": reason, "recovery": recovery or None})
        secret = (
            obtain(passphrase_fd, "recovery identity") if recovery else obtain_secret(status, passphrase_fd)
        )
        if secret is None:
            client.call("Unseal", parameters)
        else:
            with as_pipe(secret) as secret_fd:
                client.call("Unseal", {**parameters, "secret_fd": 0}, [secret_fd])
    click.echo(f"unsealed ({'by the recovery identity, ' if recovery else ''}custody {status['uri']})")


@click.command("seal", cls=Verb, epilog=example("appliance seal --reason 'end of shift'"))
@click.option("--reason", help="Why, for the log.")
@pass_session
def seal_command(session: Session, *, reason: str | None) -> None:
    """Close the vault: its keys leave memory, and jobs that need them end.

    The daemon replaces itself by a fresh process; this returns when that one listens.
    """
    before = socket_stamp(session)
    session.call("Seal", {"reason": reason})
    deadline = time.monotonic() + RETURN_TIMEOUT_S
    while not listens_anew(session, before):
        if time.monotonic() > deadline:
            raise NotRunning("sealed, but the daemon did not come back; next: `appliance daemon --detach`")
        time.sleep(POLL_S)
    click.echo("sealed")


def socket_stamp(session: Session) -> tuple[int, int] | None:
    """Return what tells one binding of the socket from the next: inode numbers alone are used again."""
    try:
        found = (Home(session.home).run / SOCKET_NAME).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


def listens_anew(session: Session, before: tuple[int, int] | None) -> bool:
    """Tell whether a process that bound the socket after `before` takes connections. Asks it nothing."""
    if socket_stamp(session) in (None, before):
        return False
    try:
        session.connect().close()
    except NotRunning:
        return False
    return True
