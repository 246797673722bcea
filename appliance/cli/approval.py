"""Requests that officers sign, and their signatures on the way back."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli.files import read_text, recipient_text, write_new
from appliance.cli.output import emit_json, printable
from appliance.cli.session import Noun, Session, Verb, example, json_option, pass_session

NAMESPACE = "approval@appliance"


@click.group("request", cls=Noun, epilog=example("appliance request export --help"))
def request_command() -> None:
    """Write a request for officers to sign."""


@request_command.command(
    "export",
    epilog=example(
        "appliance request export first-run --to lab.recipient --reason 'review' --out export.request"
    ),
)
@click.argument("model")
@click.option("--to", "recipient", required=True, help="Recipient `age1…`, or the file that holds it.")
@click.option("--reason", required=True, help="Why; the officers and the log see it.")
@click.option(
    "--valid-hours",
    type=click.IntRange(min=1, max=24 * 14),
    default=72,
    show_default=True,
    help="Refused after this long.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to write the request to.",
)
@json_option
@pass_session
def export_request(
    session: Session,
    *,
    model: str,
    recipient: str,
    reason: str,
    valid_hours: int,
    out: Path,
    as_json: bool,
) -> None:
    """Ask for the export of MODEL to one recipient."""
    reply = session.call(
        "Request",
        {
            "action": "export",
            "model": model,
            "recipient": recipient_text(recipient),
            "reason": reason,
            "valid_hours": valid_hours,
        },
    )
    # Officers sign these bytes exactly, so not even a newline is added.
    write_new(out, reply["document"].encode("ascii"))
    if as_json:
        emit_json({"id": reply["id"], "file": str(out)})
        return
    click.echo(printable(f"request {reply['id']} written to {out}"))
    click.echo(f"each officer: ssh-keygen -Y sign -f OFFICER_KEY -n {NAMESPACE} {out}")
    click.echo(f"then:         appliance approve {out} {out}.sig")


@click.command("approve", cls=Verb, epilog=example("appliance approve export.request export.request.sig"))
@click.argument("request_file", type=click.Path(path_type=Path))
@click.argument("signature_file", type=click.Path(path_type=Path))
@json_option
@pass_session
def approve_command(
    session: Session,
    *,
    request_file: Path,
    signature_file: Path,
    as_json: bool,
) -> None:
    """Hand in one officer's signature (`ssh-keygen -Y sign -n approval@appliance`) of REQUEST_FILE."""
    document = read_text(request_file, "request")
    signature = read_text(signature_file, "signature")
    reply = session.call("Approve", {"document": document, "signature": signature})
    if as_json:
        emit_json(reply)
    else:
        click.echo(printable(f"approved by {reply['person']}: {reply['approvals']} of {reply['needed']}"))
