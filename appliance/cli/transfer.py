"""Across the gap through the daemon: a bundle in, a signed model out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from appliance.bundle.media import bundle_at, folder_of
from appliance.cli.files import folder_descriptor, recipient_text, request_id
from appliance.cli.output import emit_json, emit_json_line, emit_table, printable, size_text
from appliance.cli.session import Session, Verb, example, json_option, pass_session
from appliance.errors import ProtocolError

NOT_SIGNED = (
    "an export leaves only signed, so that its recipient can tell it from a forgery: repeat with --sign. "
    "The appliance's export key signs; there is no way to export without."
)


@click.command("import", cls=Verb, epilog=example("appliance import /media/stick/0a1b2c3d.bundle"))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--receipt-to",
    metavar="RECIPIENT",
    help="Write a receipt for this sender: `age1…`, or its file.",
)
@click.option(
    "--receipt-out",
    type=click.Path(path_type=Path),
    help="Folder, or mounted device, for the receipt.  [default: beside BUNDLE]",
)
@json_option
@pass_session
def import_command(
    session: Session, *, bundle: Path, receipt_to: str | None, receipt_out: Path | None, as_json: bool
) -> None:
    """Take BUNDLE into the vault: a *.bundle folder of a trusted signer, or the medium that one lies on.

    A bundle of approvals becomes no object: the officers' signatures in it are handed in.
    """
    source = bundle_at(bundle)
    sender = None if receipt_to is None else recipient_text(receipt_to)
    with folder_descriptor(source, "bundle") as folder_fd:
        reply = session.call("ImportBundle", {"folder_fd": 0}, [folder_fd])
    if sender is not None:
        reply |= send_receipt(session, reply["bundle"], sender, receipt_out or source.parent)
    if as_json:
        emit_json(reply)
        return
    click.echo(
        printable(f"imported bundle {reply['bundle']} (channel {reply['channel']}, number {reply['seq']})")
    )
    if reply["approvals"] is not None:
        show_approvals(reply["approvals"])
        return
    emit_table(
        ("KIND", "NAME", "VERSION", "SIZE"),
        (
            (item["kind"], item["name"], str(item["version"]), size_text(item["size_bytes"]))
            for item in reply["objects"]
        ),
    )


def show_approvals(brought: dict[str, Any]) -> None:
    """Say who approves what by a bundle; signatures that do not count stand on standard error."""
    people = ", ".join(brought["people"]) or "nobody who had not approved before"
    click.echo(printable(f"request {brought['request']} approved by {people}"))
    for reason in brought["refused"]:
        click.echo(printable(f"refused: {reason}"), err=True)


def send_receipt(session: Session, bundle: str, recipient: str, out: Path) -> dict[str, Any]:
    """Have a receipt written for the sender of an imported bundle; it is its own bundle."""
    with folder_descriptor(folder_of(out), "receipt") as folder_fd:
        parameters = {"bundle": bundle, "recipient": recipient, "folder_fd": 0}
        reply = session.call("SendReceipt", parameters, [folder_fd])
    click.echo(printable(f"receipt for the sender: {out / reply['receipt']}"), err=True)
    return {"receipt": reply["receipt"]}


@click.command(
    "export",
    cls=Verb,
    epilog=example(
        "appliance export first-run --sign --to lab.recipient --request export.request --out /media/stick"
    ),
)
@click.argument("model")
@click.option("--metrics", is_flag=True, help="MODEL is a job: only its figures leave, as JSON.")
@click.option("--sign", is_flag=True, help="Sign the model and the bundle (always needed).")
@click.option("--to", "recipient", required=True, help="Recipient `age1…`, or the file that holds it.")
@click.option("--request", required=True, metavar="FILE_OR_ID", help="The request that officers approved.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder, or mounted device, to write the bundle's folder into.",
)
@json_option
@pass_session
def export_command(
    session: Session,
    *,
    model: str,
    metrics: bool,
    sign: bool,
    recipient: str,
    request: str,
    out: Path,
    as_json: bool,
) -> None:
    """Write MODEL, signed and with its lineage, into a bundle that only one recipient can open."""
    if not sign:
        raise click.UsageError(NOT_SIGNED)
    parameters: dict[str, object] = {
        "model": model,
        "recipient": recipient_text(recipient),
        "request": request_id(request),
    }
    parameters |= {"metrics": True} if metrics else {}
    out = folder_of(out) if out.exists() else out
    out.mkdir(exist_ok=True)
    bundle: str | None = None
    with folder_descriptor(out, "output") as folder_fd:
        for item in session.stream("Export", {**parameters, "folder_fd": 0}, [folder_fd]):
            bundle = item.get("bundle") or bundle
            if as_json:
                emit_json_line(item)
            elif item["stage"] != "done":
                click.echo(printable(stage_text(item)))
    if bundle is None:
        raise ProtocolError("the daemon ended the export without naming a bundle; next: `appliance status`")
    if not as_json:
        click.echo(printable(f"exported {out / bundle}"))


def stage_text(item: dict[str, Any]) -> str:
    """Phrase how far an export is; parts are counted once their number is known."""
    return f"{item['stage']} part {item['part']} of {item['parts']}" if item["parts"] else f"{item['stage']}"
