"""Versions of the root: who may sign which bundles, made and signed offline, checked by anybody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.bundle import dsse
from appliance.bundle.folder import write_beside
from appliance.bundle.root import (
    ROLES,
    Role,
    Root,
    add_signature,
    unsigned_envelope,
    unverified_root,
    verify_first,
    verify_next,
)
from appliance.bundle.signer import load_signer, load_verifier
from appliance.cli.files import read_small, write_new
from appliance.cli.output import emit_facts, emit_json
from appliance.cli.session import Noun, example, json_option
from appliance.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROLE = re.compile(r"([a-z]+)=([0-9]+):(.*)")


@click.group("root", cls=Noun, epilog=example("appliance root create --role root=2:a.vkey,b.vkey --out r1"))
def root_command() -> None:
    """Make, sign and check versions of the root. Needs no daemon."""


@root_command.command(
    "create",
    epilog=example(
        "appliance root create --role root=2:ann.vkey,bob.vkey,cem.vkey --role researcher=1:dee.vkey"
        " --out r0001.json"
    ),
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE=K:VKEYFILE,…",
    help=f"K of these keys sign as ROLE: {', '.join(ROLES)}. A role not named stays, or has no keys.",
)
@click.option(
    "--after", type=click.Path(path_type=Path), metavar="ROOTFILE", help="The version before this one."
)
@click.option(
    "--revoke",
    multiple=True,
    metavar="SHA256",
    help="Digest of a bundle's manifest to revoke; may be repeated.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="New file; nobody has signed it yet."
)
@json_option
def create_command(
    *, roles: tuple[str, ...], after: Path | None, revoke: tuple[str, ...], out: Path, as_json: bool
) -> None:
    """Write a new version, unsigned. Keys that it leaves out are revoked by that."""
    before = unverified_root(read_small(after, "root")) if after is not None else None
    named = dict(parse_role(text) for text in roles)
    known = dict(before.roles) if before else {name: Role((), 1) for name in ROLES}
    root = Root(
        version=before.version + 1 if before else 1,
        roles={**known, **named},
        revoked=tuple(sorted({*(before.revoked if before else ()), *revoke})),
    )
    write_new(out, unsigned_envelope(root))
    show([root], as_json=as_json)


@root_command.command("sign", epilog=example("appliance root sign r0002.json --sign ann.key"))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sign", type=click.Path(path_type=Path), required=True, metavar="KEYFILE", help="A root key.")
@json_option
def sign_command(*, file: Path, sign: Path, as_json: bool) -> None:
    """Add your signature to FILE. What it says is shown: read it before you pass it on."""
    envelope = add_signature(read_small(file, "root"), load_signer(sign))
    write_beside(file, envelope)
    show([unverified_root(envelope)], as_json=as_json)


@root_command.command("verify", epilog=example("appliance root verify r0001.json r0002.json"))
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@json_option
def verify_command(*, files: tuple[Path, ...], as_json: bool) -> None:
    """Check all versions, from the first on, and show the newest. That the first is right, you must know."""
    envelopes = [read_small(path, "root") for path in files]
    chain = [verify_first(envelopes[0])]
    for envelope in envelopes[1:]:
        chain.append(verify_next(chain[-1], envelope))
    show(chain, as_json=as_json)


def parse_role(text: str) -> tuple[str, Role]:
    """Parse ROLE=K:FILE,FILE; raises UsageError."""
    found = _ROLE.fullmatch(text)
    if found is None or found[1] not in ROLES or not 1 <= int(found[2]) <= dsse.MAX_SIGNATURES:
        raise UsageError(f"--role: expected ROLE=K:VKEYFILE,… with {', '.join(ROLES)}, found {text!r:.120}")
    files = [Path(name) for name in found[3].split(",") if name]
    return found[1], Role(tuple(load_verifier(path) for path in files), int(found[2]))


def show(chain: Sequence[Root], *, as_json: bool) -> None:
    """Print the newest of a chain."""
    root = chain[-1]
    if as_json:
        roles = {
            name: {"keys": [key.text for key in role.keys], "threshold": role.threshold}
            for name, role in root.roles.items()
        }
        emit_json({"version": root.version, "roles": roles, "revoked": list(root.revoked)})
        return
    facts = [("version", str(root.version))]
    for name, role in root.roles.items():
        held = ", ".join(dsse.key_id(key) for key in role.keys)
        facts.append((name, f"{role.threshold} of {held}" if held else "nobody"))
    emit_facts([*facts, *(("revoked", digest) for digest in root.revoked)])
