"""Requests that officers sign, and their signatures on the way back, by file or by a stick's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from appliance.bundle.approval import REQUEST, Carried, in_words, read_approvals
from appliance.bundle.approval import write_request as write_folder
from appliance.bundle.folder import BundleFolder
from appliance.cli.files import folder_descriptor, read_text, recipient_text, write_new
from appliance.cli.output import emit_json, printable
from appliance.cli.session import Noun, Session, Verb, example, json_option, pass_session
from appliance.errors import AlreadyExists, ApplianceError, Incomplete, NotRunning
from appliance.export.form import EXACT, INCLUDED, ROUNDINGS, WITHHELD, Form
from policy.approvals import NAMESPACE, parse_request

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
            help="File to write the request to.",
        ),
        click.option(
            "--stick",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder, on a stick say, to write a folder into that officers sign in.",
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
    out: Path | None,
    stick: Path | None,
    as_json: bool,
) -> None:
    """Have the request made and write it, to the byte; say what officers do with it."""
    if (out is None) == (stick is None):
        raise click.UsageError("expected one of --out FILE and --stick FOLDER")
    asked = {"resources": list(resources), "recipients": list(recipients), "options": dict(options or {})}
    reply = session.call("Request", {"action": action, **asked, "reason": reason, "valid_hours": valid_hours})
    # Officers sign these bytes exactly, so not even a newline is added.
    document = reply["document"].encode("ascii")
    made, given = out, f"{out} {out}.sig"
    if out is not None:
        write_new(out, document)
    if stick is not None:
        with folder_descriptor(stick, "stick") as parent:
            given = str(stick / write_folder(parent, document))
        made = Path(given) / REQUEST
    if as_json:
        emit_json({"id": reply["id"], "file": str(made)})
        return
    click.echo(printable(f"request {reply['id']} written to {made}"))
    click.echo(f"each officer: ssh-keygen -Y sign -f OFFICER_KEY -n {NAMESPACE} {made}")
    click.echo(f"then:         appliance approve {given}")


@request_command.command(
    "export",
    epilog=example(
        "appliance request export first-run --to lab.recipient --reason 'review' --out export.request"
    ),
)
@click.argument("model")
@click.option("--to", "recipient", required=True, help="Recipient `age1…`, or the file that holds it.")
@click.option(
    "--without-architecture", is_flag=True, help="Only weights and tokenizer leave: no config.json."
)
@click.option(
    "--round", "rounding", type=click.Choice(ROUNDINGS[1:]), help="Clear the low bits of each weight."
)
@request_options
@pass_session
def export_request(
    session: Session,
    /,
    *,
    model: str,
    recipient: str,
    without_architecture: bool,
    rounding: str | None,
    **told: Any,
) -> None:
    """Ask for the export of MODEL to one recipient, in a form that officers sign with it."""
    form = Form(WITHHELD if without_architecture else INCLUDED, rounding or EXACT)
    write_request(session, "export", [model], [recipient_text(recipient)], form.options, **told)


@request_command.command(
    "metrics",
    epilog=example("appliance request metrics JOB --to lab.recipient --reason plot --out m.request"),
)
@click.argument("job")
@click.option("--to", "recipient", required=True, help="Recipient `age1…`, or the file that holds it.")
@request_options
@pass_session
def metrics_request(session: Session, /, *, job: str, recipient: str, **told: Any) -> None:
    """Ask for the export of the figures of JOB, and nothing else, to one recipient."""
    write_request(session, "export", [job], [recipient_text(recipient)], {"content": "metrics"}, **told)


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


@request_command.command(
    "release",
    epilog=example("appliance request release 0.2.0 --reason 'mended' --out floor.request"),
)
@click.argument("version")
@request_options
@pass_session
def release_request(session: Session, /, *, version: str, **told: Any) -> None:
    """Ask that no release below VERSION starts here again; carried out by `appliance release`."""
    write_request(session, "configure", options={"setting": "release", "floor": version}, **told)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"expected NAME=VALUE, found {text}")
    return name, value


@request_command.command("show", epilog=example("appliance request show /media/stick/0a1b2c3d.approval"))
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def show_request(*, path: Path, as_json: bool) -> None:
    """Show in words what the request at PATH, a file or a stick's folder, asks for (no daemon needed)."""
    carried = _carried(path) if path.is_dir() else None
    request = carried.request if carried else parse_request(read_text(path, "request").encode("ascii"))
    if as_json:
        signatures = sorted(carried.signatures) if carried else []
        emit_json({**asdict(request), "id": request.id, "signatures": signatures})
        return
    click.echo(f"request {request.id}\n{in_words(request)}")
    for name in carried.signatures if carried else ():
        click.echo(printable(f"  signature  {name}"))


@click.command("approve", cls=Verb, epilog=example("appliance approve export.request export.request.sig"))
@click.argument("request", metavar="REQUEST", type=click.Path(path_type=Path))
@click.argument("signatures", metavar="[SIGNATURE]...", nargs=-1, type=click.Path(path_type=Path))
@json_option
@pass_session
def approve_command(session: Session, *, request: Path, signatures: tuple[Path, ...], as_json: bool) -> None:
    """Hand in officers' signatures (`ssh-keygen -Y sign -n approval@appliance`) of REQUEST.

    REQUEST is the file that was signed, or the folder on a stick that came back, with the signatures in it.
    """
    if request.is_dir() == bool(signatures):
        raise click.UsageError("expected a request's file and its signatures, or a folder with both")
    if signatures:
        document = read_text(request, "request")
        given = {str(path): read_text(path, "signature") for path in signatures}
    else:
        carried = _carried(request)
        document, given = carried.document.decode("ascii"), dict(carried.signatures)
        if not given:
            raise Incomplete(f"{request}: expected NAME.sig by an officer, found no signature in the folder")
    tried = (_hand_in(session, document, given[name], as_json=as_json) for name in given)
    refused = [error for error in tried if error is not None]
    if not signatures:  # a folder travels more than once: what it brought before is not refused again
        refused = [error for error in refused if not isinstance(error, AlreadyExists)]
    if refused:
        raise refused[0]


def _hand_in(session: Session, document: str, signature: str, *, as_json: bool) -> ApplianceError | None:
    """Hand in one signature; return what refused it, so that one bad signature keeps no good one back."""
    try:
        reply = session.call("Approve", {"document": document, "signature": signature})
    except NotRunning:
        raise
    except ApplianceError as refused:
        return refused
    if as_json:
        emit_json(reply)
        return None
    roles = [what for what in reply["missing"] if "-of-" not in what]
    lacks = f", still without {', '.join(roles)}" if roles else ""
    click.echo(printable(f"approved by {reply['person']}: {reply['approvals']} of {reply['needed']}{lacks}"))
    return None


def _carried(path: Path) -> Carried:
    with BundleFolder.open(path) as folder:
        return read_approvals(folder)
