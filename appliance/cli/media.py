"""Removable media: which are there, and which bundles lie on them. Needs no daemon and opens no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.bundle.media import MOUNT, Device, devices, listing
from appliance.cli.output import emit_facts, emit_json, emit_table, size_text
from appliance.cli.session import Noun, example, json_option
from appliance.errors import MediumMissing

if TYPE_CHECKING:
    from appliance.bundle.media import Listing

NONE = "no removable medium: insert one"


@click.group("media", cls=Noun, epilog=example("appliance media list"))
def media_command() -> None:
    """List removable media and what is on them."""


@media_command.command("list", epilog=example("appliance media list --json"))
@json_option
def list_command(*, as_json: bool) -> None:
    """List removable devices and the bundles on those that are mounted; nothing on them is opened."""
    found = [(device, _listing(device)) for device in devices()]
    if as_json:
        emit_json([_document(device, names) for device, names in found])
        return
    if not found:
        click.echo(NONE, err=True)
        return
    emit_table(
        ("DEVICE", "SIZE", "MODEL", "SYSTEM", "MOUNTED AT"),
        (
            (
                device.path + (" (write-protected)" if device.write_protected else ""),
                size_text(device.size_bytes),
                device.model,
                device.filesystem or "-",
                str(device.folder or f"no: `{MOUNT} {device.path} /mnt`"),
            )
            for device, _ in found
        ),
    )
    for device, names in found:
        if names is not None:
            emit_facts([(f"{device.path} {what}", name) for what, name in _rows(names)])


def _listing(device: Device) -> Listing | None:
    """List a mounted medium; one that is pulled meanwhile has nothing on it."""
    if device.folder is None:
        return None
    try:
        return listing(device.folder)
    except MediumMissing:
        return None


def _rows(names: Listing) -> list[tuple[str, str]]:
    return [
        *(("bundle", name) for name in names.bundles),
        *(("unfinished", name) for name in names.unfinished),
        *(("approvals", name) for name in names.approvals),
        *(("ignored", name) for name in names.foreign),
    ]


def _document(device: Device, names: Listing | None) -> dict[str, object]:
    return {
        "device": device.path,
        "model": device.model,
        "size_bytes": device.size_bytes,
        "write_protected": device.write_protected,
        "filesystem": device.filesystem,
        "folder": None if device.folder is None else str(device.folder),
        "bundles": list(names.bundles) if names else [],
        "unfinished": list(names.unfinished) if names else [],
        "approvals": list(names.approvals) if names else [],
        "ignored": list(names.foreign) if names else [],
    }
