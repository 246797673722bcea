"""Keys of the appliance that a person may take away: today the vault identity, for offline recovery."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack, closing
from typing import Any

import click

from appliance.cli.ceremony import obtain_secret
from appliance.cli.output import emit_json
from appliance.cli.passphrase import as_pipe, passphrase_fd_option
from appliance.cli.session import Noun, Session, example, json_option, pass_session
from appliance.errors import ProtocolError

MAX_IDENTITY_BYTES = 4096
ANSWER_TIMEOUT_S = 30.0


@click.group("keys", cls=Noun, epilog=example("appliance keys rotate --reason yearly"))
def keys_command() -> None:
    """Rotate the vault's key; recover the vault identity for offline keeping."""


@keys_command.command("rotate", epilog=example("appliance keys rotate --reason yearly"))
@click.option("--reason", default="", help="Why; it stands in the log.")
@json_option
@pass_session
def rotate(session: Session, *, reason: str, as_json: bool) -> None:
    """Wrap every object's header for a new vault identity, and destroy the old one.

    Payloads are not touched. At every moment every object opens; a rotation that was cut off goes on where it
    was when this is repeated. Old copies of a header stay shut afterwards, except to old copies of keyrings.
    """
    last: dict[str, Any] = {}
    for last in session.stream("RotateVaultKey", {"reason": reason}):
        if not as_json and last.get("log_index") is None:
            click.echo(f"    {last['done']:,} of {last['total']:,} headers", err=True)
    if as_json:
        emit_json(last)
        return
    click.echo(f"rotated: {last['done']:,} objects, log entry {last['log_index']}")
    click.echo(
        "next: make a new backup; the former ones open with their own copy of the keyring only", err=True
    )


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
