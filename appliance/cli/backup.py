"""Copies of the whole appliance, ciphertext only, and the proof that one of them opens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from appliance.cli.ceremony import collect_shares
from appliance.cli.files import folder_descriptor
from appliance.cli.output import emit_json, printable, size_text
from appliance.cli.passphrase import obtain, passphrase_fd_option
from appliance.cli.session import Noun, Session, example, json_option, pass_session
from appliance.custody.uri import what_is_asked
from appliance.errors import UsageError

EVERY_S = 1.0


@click.group(
    "backup",
    cls=Noun,
    invoke_without_command=True,
    epilog=example("appliance backup --out /media/disk/backup"),
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the backup; made if it is not there, brought up to date if it is.",
)
@json_option
@click.pass_context
def backup_command(context: click.Context, *, out: Path | None, as_json: bool) -> None:
    """Back the running appliance up, ciphertext only; objects that the folder has are not copied again.

    It looks like a home: `appliance restore-log --from` makes an appliance of it. With `file:` custody the
    key file is left out: keep it elsewhere. A stopped home needs no such command: a copy of it is a backup.
    """
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise UsageError("expected --out FOLDER, or `appliance backup rehearse FOLDER`, found neither")
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    last: dict[str, Any] = {}
    told = time.monotonic()
    with folder_descriptor(out, "backup") as folder_fd:
        parameters = {"folder_fd": 0, "name": str(out.absolute())[-200:]}
        for last in context.ensure_object(Session).stream("Backup", parameters, [folder_fd]):
            if not as_json and last["log_index"] is None and time.monotonic() - told > EVERY_S:
                told = time.monotonic()
                copied = size_text(last["copied_bytes"])
                click.echo(f"    {last['done']:,} of {last['total']:,} objects, {copied} copied", err=True)
    if as_json:
        emit_json(last)
        return
    copied = size_text(last["copied_bytes"])
    click.echo(f"backed up: {last['done']:,} objects, {copied} copied, log entry {last['log_index']}")
    click.echo(printable(f"next: prove that it opens with `appliance backup rehearse {out}`"), err=True)


@backup_command.command("rehearse", epilog=example("appliance backup rehearse /media/disk/backup"))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With `file:` custody: the key file, which no backup holds.",
)
@passphrase_fd_option
@json_option
@pass_session
def rehearse_command(
    session: Session, *, folder: Path, key_file: Path | None, passphrase_fd: int | None, as_json: bool
) -> None:
    """Prove that the backup in FOLDER opens, with the secret that unseals it. Works offline.

    The whole log is verified and every object decrypted to its last chunk; nothing is written and no live
    appliance is touched.
    """
    del session
    from appliance.rehearse import read, rehearse  # noqa: PLC0415  loads cryptography, policy and log

    backup = read(folder)
    asks = what_is_asked(backup.record.uri)
    if asks == "shares":
        secret: bytearray | None = collect_shares(backup.share_set, passphrase_fd)
    else:
        secret = obtain(passphrase_fd, asks) if asks else None
    last, told = None, time.monotonic()
    for last in rehearse(backup, secret, key_file):
        if not as_json and time.monotonic() - told > EVERY_S:
            told = time.monotonic()
            opened = size_text(last.opened_bytes)
            click.echo(f"    {last.done:,} of {last.total:,} objects, {opened}", err=True)
    assert last is not None  # noqa: S101  a rehearsal tells at least that there was nothing to open
    facts = {"origin": backup.facts.origin, "log_size": backup.contents.entries, "objects": last.total}
    if as_json:
        emit_json({**facts, "bytes": last.opened_bytes})
        return
    log = f"log {backup.facts.origin} verified, {backup.contents.entries:,} entries"
    click.echo(printable(f"opens: {last.total:,} objects, {size_text(last.opened_bytes)}; {log}"))
    click.echo(printable(f"restore with `appliance --home NEW restore-log --from {folder}`"), err=True)
