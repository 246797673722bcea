"""Keys of people: a signer's, who vouches for bundles, and a recipient's, who opens exports."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import click

from appliance.age import HybridIdentity, X25519Identity
from appliance.bundle.signer import SEED_BYTES, SignerKey, allowed_signers_line, save_signer
from appliance.cli.files import write_new
from appliance.cli.output import emit_json
from appliance.cli.session import Noun, example, json_option
from appliance.errors import AlreadyExists, UsageError

RECIPIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder to write to.  [default: this folder]",
)


@click.group("keygen", cls=Noun, epilog=example("appliance keygen signer alice"))
def keygen_command() -> None:
    """Make keys for signers and recipients. The secret half is readable by its owner only."""


@keygen_command.command("signer", epilog=example("appliance keygen signer alice --out keys"))
@click.argument("name")
@out_option
@json_option
def signer_command(*, name: str, out: Path, as_json: bool) -> None:
    """Make NAME.key, which signs bundles, and NAME.vkey, which `init --trust-signer` takes."""
    key = SignerKey.from_seed(name, secrets.token_bytes(SEED_BYTES))
    out.mkdir(parents=True, exist_ok=True)
    secret, public = save_signer(out, key)
    if as_json:
        emit_json({"name": name, "key": str(secret), "vkey": str(public), "public": key.vkey.text})
        return
    click.echo(f"secret key  {secret}")
    click.echo(f"public key  {public}")
    click.echo(f"for ssh-keygen -Y verify: {allowed_signers_line(key.vkey).strip()}")


@keygen_command.command("recipient", epilog=example("appliance keygen recipient lab --out keys"))
@click.argument("name")
@out_option
@click.option("--hybrid", is_flag=True, help="Post-quantum: ML-KEM-768 with X25519 (needs age 1.3 to open).")
@json_option
def recipient_command(*, name: str, out: Path, hybrid: bool, as_json: bool) -> None:
    """Make NAME.identity, which opens exports, and NAME.recipient, which they are encrypted to."""
    if not RECIPIENT_NAME.fullmatch(name):
        raise UsageError(f"recipient name: expected up to 64 letters, digits and . _ -, found {name!r:.80}")
    identity = HybridIdentity.generate() if hybrid else X25519Identity.generate()
    recipient = identity.recipient.text
    out.mkdir(parents=True, exist_ok=True)
    secret, public = out / f"{name}.identity", out / f"{name}.recipient"
    if os.path.lexists(public):
        raise AlreadyExists(f"{public} exists and is not overwritten")
    # The layout of `age-keygen`, so that the public tools take the file as it is.
    write_new(
        secret, b"# public key: " + recipient.encode() + b"\n" + bytes(identity.encode()) + b"\n", mode=0o600
    )
    write_new(public, recipient.encode() + b"\n")
    if as_json:
        emit_json(
            {"name": name, "identity": str(secret), "recipient_file": str(public), "recipient": recipient}
        )
        return
    click.echo(f"identity   {secret}")
    click.echo(f"recipient  {public}")
    click.echo(recipient)
