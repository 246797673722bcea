"""Requests that officers sign, and their signatures on the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.cli.files import read_text, recipient_text, write_new
from appliance.cli.output import emit_json, printable
from appliance.cli.session import Noun, Session, Verb, example, json_option, pass_session

NAMESPACE = "approval@appliance"
_F = TypeVar("_F", bound=Callable[..., Any])


@click.group("request", cls=Noun, epilog=example("appliance request export --help"))
def request_command() -> None:
    """Write a request for officers to sign."""


def request_options(command: _F) -> _F:
    """Add what every request is told: why, for how long, and the file to write it to."""
    for option in (
        json_option,
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            required=True,
            help="File to write the request to.",
        ),
        click.option(
            "--valid-hours",
            type=click.IntRange(min=1, max=24 * 14),
            default=72,
            show_default=True,
            help="Refused after this long.",
        ),
        click.option("--reason", required=True, help="Why; the officers and the log see it."),
    ):
        command = option(command)
    return command


def write_request(
    session: Session,
    action: str,
    resources: Sequence[str] = (),
    recipients: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    *,
    reason: str,
    valid_hours: int,
    out: Path,
    as_json: bool,
) -> None:
    """Have the request made and write it, to the byte; say what officers do with it."""
    asked = {"resources": list(resources), "recipients": list(recipients), "options": dict(options or {})}
    reply = session.call("Request", {"action": action, **asked, "reason": reason, "valid_hours": valid_hours})
    # Officers sign these bytes exactly, so not even a newline is added.
    write_new(out, reply["document"].encode("ascii"))
    if as_json:
        emit_json({"id": reply["id"], "file": str(out)})
        return
    click.echo(printable(f"request {reply['id']} written to {out}"))
    click.echo(f"each officer: ssh-keygen -Y sign -f OFFICER_KEY -n {NAMESPACE} {out}")
    click.echo(f"then:         appliance approve {out} {out}.sig")


@request_command.command(
    "export",
    epilog=example(
        "appliance request export first-run --to lab.recipient --reason 'review' --out export.request"
    ),
)
@click.argument("model")
@click.option("--to", "recipient", required=True, help="Recipient `age1…`, or the file that holds it.")
@request_options
@pass_session
def export_request(session: Session, /, *, model: str, recipient: str, **told: Any) -> None:
    """Ask for the export of MODEL to one recipient."""
    write_request(session, "export", [model], [recipient_text(recipient)], **told)


@request_command.command(
    "shred", epilog=example("appliance request shred weights/old@3 --reason 'not needed' --out shred.request")
)
@click.argument("object_name", metavar="OBJECT")
@request_options
@pass_session
def shred_request(session: Session, /, *, object_name: str, **told: Any) -> None:
    """Ask for the shredding of OBJECT: its id, KIND/NAME, or KIND/NAME@VERSION."""
    write_request(session, "shred", [object_name], **told)


@request_command.command(
    "break-glass", epilog=example("appliance request break-glass --reason 'auditor ill' --out glass.request")
)
@request_options
@pass_session
def break_glass_request(session: Session, /, **told: Any) -> None:
    """Ask that one job may start although the log is long unwitnessed."""
    write_request(session, "break-glass", **told)


@request_command.command(
    "configure",
    epilog=example(
        "appliance request configure policy policy_set=9f86d081… --reason 'stricter' --out rules.request"
    ),
)
@click.argument("setting")
@click.argument("options", nargs=-1, metavar="[NAME=VALUE]...")
@request_options
@pass_session
def configure_request(session: Session, /, *, setting: str, options: tuple[str, ...], **told: Any) -> None:
    """Ask for the change of a SETTING; the verb that changes it says which options it needs."""
    given = dict(_pair(option) for option in options)
    write_request(session, "configure", options={"setting": setting, **given}, **told)


@request_command.command(
    "officer", epilog=example("appliance request officer dora dora.pub --reason 'joins' --out dora.request")
)
@click.argument("person")
@click.argument("key", type=click.Path(path_type=Path), metavar="KEY.pub")
@click.option("--role", "roles", multiple=True, help="A role beside that of officer; may be repeated.")
@request_options
@pass_session
def officer_request(
    session: Session, /, *, person: str, key: Path, roles: tuple[str, ...], **told: Any
) -> None:
    """Ask that PERSON may approve with KEY.pub; carried out by `appliance officers add`."""
    words = read_text(key, "public key").split()[:2]
    options = {"setting": "officers", "change": "add", "person": person, "key": " ".join(words)}
    write_request(session, "configure", options={**options, "roles": ",".join(sorted(set(roles)))}, **told)


@request_command.command(
    "revocation", epilog=example("appliance request revocation bob --reason 'left us' --out bob.request")
)
@click.argument("person")
@request_options
@pass_session
def revocation_request(session: Session, /, *, person: str, **told: Any) -> None:
    """Ask that PERSON may approve nothing any more; carried out by `appliance officers revoke`."""
    options = {"setting": "officers", "change": "revoke", "person": person}
    write_request(session, "configure", options=options, **told)


@request_command.command(
    "clock",
    epilog=example("appliance request clock 2031-05-04T09:00:00Z --reason 'battery' --out time.request"),
)
@click.argument("moment")
@request_options
@pass_session
def clock_request(session: Session, /, *, moment: str, **told: Any) -> None:
    """Ask that MOMENT counts as passed; carried out by `appliance clock extend`."""
    write_request(session, "configure", options={"setting": "clock", "floor": moment}, **told)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"expected NAME=VALUE, found {text}")
    return name, value


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
        roles = [what for what in reply["missing"] if "-of-" not in what]
        lacks = f", still without {', '.join(roles)}" if roles else ""
        counted = f"{reply['approvals']} of {reply['needed']}"
        click.echo(printable(f"approved by {reply['person']}: {counted}{lacks}"))
