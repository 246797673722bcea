"""Proofs out of the audit log, for an auditor who keeps them."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import click

from appliance.cli.files import write_new
from appliance.cli.session import Noun, Session, example, pass_session
from appliance.errors import ProtocolError


@click.group("log", cls=Noun, epilog=example("appliance log receipt 12 --out genesis"))
def log_command() -> None:
    """Take the tree head or a receipt out of the audit log; `python -m audit verify` checks them."""


@log_command.command("receipt", epilog=example("appliance log receipt 12 --out export-decision"))
@click.argument("index", type=click.IntRange(min=0))
@click.option("--out", "name", required=True, metavar="NAME", help="Writes NAME.tlog-proof and NAME.entry.")
@click.option(
    "--witnessed", is_flag=True, help="Under the newest witnessed tree head, with its cosignatures."
)
@pass_session
def receipt_command(session: Session, *, index: int, name: str, witnessed: bool) -> None:
    """Write the receipt of entry INDEX, and the entry itself beside it."""
    reply = session.call("Receipt", {"index": index, "witnessed": witnessed or None})
    entry, proof = decoded(reply["entry"], "entry"), decoded(reply["proof"], "proof")
    write_new(Path(f"{name}.entry"), entry)
    write_new(Path(f"{name}.tlog-proof"), proof)
    click.echo(f"entry {index}: {name}.tlog-proof, {name}.entry")


@log_command.command("head", epilog=example("appliance log head --out head.note"))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write the note to."
)
@pass_session
def head_command(session: Session, *, out: Path) -> None:
    """Write the newest signed tree head, which commits to every entry before it."""
    write_new(out, session.call("TreeHead", {})["note"].encode("utf-8"))
    click.echo(f"tree head: {out}")


def decoded(value: str, what: str) -> bytes:
    """Decode the base64 of a reply. Raises ProtocolError."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as broken:
        raise ProtocolError(f"{what}: expected base64 from the daemon, found something else") from broken
