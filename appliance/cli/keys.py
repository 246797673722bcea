"""Keys of the appliance that a person may take away: today the vault identity, for offline recovery."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack, closing

import click

from appliance.cli.ceremony import obtain_secret
from appliance.cli.passphrase import as_pipe, passphrase_fd_option
from appliance.cli.session import Noun, Session, example, pass_session
from appliance.errors import ProtocolError

MAX_IDENTITY_BYTES = 4096
ANSWER_TIMEOUT_S = 30.0


@click.group("keys", cls=Noun, epilog=example("appliance keys recover-identity > identity.txt"))
def keys_command() -> None:
    """Recover the vault identity for offline keeping."""


@keys_command.command("recover-identity", epilog=example("appliance keys recover-identity > identity.txt"))
@passphrase_fd_option
@pass_session
def recover_identity(session: Session, *, passphrase_fd: int | None) -> None:
    """Print the vault identity, after the same secret as `unseal`; the log records it.

    With it and the disk, the public `age` tool opens every object and leaves no entry: keep it offline,
    apart from the appliance.
    """
    with ExitStack() as held:
        client = held.enter_context(closing(session.connect()))
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        held.callback(os.close, read_end)
        with os.fdopen(write_end, "wb"):  # our copy closes, whatever happens
            parameters, fds = {"secret_out_fd": 0}, [write_end]
            secret = obtain_secret(client.call("CustodyStatus", {}), passphrase_fd)
            if secret is not None:
                parameters["secret_fd"] = 1
                fds.append(held.enter_context(as_pipe(secret)))
            client.call("RecoverIdentity", parameters, fds)
        click.echo(read_identity(read_end))
    click.echo(
        "keep this offline: with it and the disk, every object can be read and no log entry tells", err=True
    )


def read_identity(descriptor: int) -> str:
    """Read one line from the pipe. Raises ProtocolError where none comes."""
    received = bytearray()
    while not received.endswith(b"\n") and len(received) <= MAX_IDENTITY_BYTES:
        ready, _, _ = select.select([descriptor], [], [], ANSWER_TIMEOUT_S)
        piece = os.read(descriptor, MAX_IDENTITY_BYTES) if ready else b""
        if not piece:
            break
        received += piece
    text = received.decode("ascii", "replace").strip()
    if not text.startswith("AGE-SECRET-KEY-"):
        raise ProtocolError(
            "expected an identity on the pipe, found something else; next: `appliance status`"
        )
    return text
