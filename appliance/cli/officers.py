"""Who may approve, and what time it is: both are said by officers, in requests that the others signed."""

from __future__ import annotations

import tomllib

import click

from appliance.cli.files import request_id
from appliance.cli.output import emit_json, emit_table, printable
from appliance.cli.session import Noun, Session, example, json_option, pass_session

request_option = click.option(
    "--request", required=True, metavar="FILE_OR_ID", help="The request that officers approved."
)


@click.group("officers", cls=Noun, epilog=example("appliance officers list"))
def officers_command() -> None:
    """List those who may approve, and change them by their word."""


@officers_command.command("list", epilog=example("appliance officers list --json"))
@json_option
@pass_session
def list_command(session: Session, *, as_json: bool) -> None:
    """List who may approve, with the fingerprint of each key as `ssh-keygen -l` prints it."""
    officers = session.call("ListOfficers", {})["officers"]
    if as_json:
        emit_json(officers)
        return
    rows = [
        (each["person"], ", ".join(each["roles"]), each["key_type"], each["fingerprint"]) for each in officers
    ]
    emit_table(("OFFICER", "ROLES", "KEY", "FINGERPRINT"), rows)


@officers_command.command("add", epilog=example("appliance officers add --request dora.request"))
@request_option
@pass_session
def add_command(session: Session, *, request: str) -> None:
    """Enrol the officer whom an approved request names; `appliance request officer` makes one."""
    _change(session, request)


@officers_command.command("revoke", epilog=example("appliance officers revoke --request bob-goes.request"))
@request_option
@pass_session
def revoke_command(session: Session, *, request: str) -> None:
    """Revoke the officer whom an approved request names; what rested on their approval ends."""
    _change(session, request)


@officers_command.command("limits", epilog=example("appliance officers limits --request three.request"))
@click.option("--request", metavar="FILE_OR_ID", help="The change that officers approved, to carry out.")
@json_option
@pass_session
def limits_command(session: Session, *, request: str | None, as_json: bool) -> None:
    """Show how many must approve what, and how much may leave; with --request, change it.

    `appliance request configure limits action=export quorum=people=3` asks for a quorum, `content=weights
    budget=count=4` for a budget.
    """
    limits = session.call("ChangeLimits", {} if request is None else {"request": request_id(request)})
    if as_json:
        emit_json({name: tomllib.loads(text) for name, text in limits.items()})
        return
    click.echo(f"# who must approve; two people where nothing is said\n{limits['quorums']}")
    click.echo(f"# what may leave in a period\n{limits['budgets']}", nl=False)


def _change(session: Session, request: str) -> None:
    reply = session.call("ChangeOfficers", {"request": request_id(request)})
    if reply["change"] == "add":
        click.echo(printable(f"{reply['person']} may approve from now on"))
        return
    click.echo(printable(f"{reply['person']} may approve nothing any more, and what they approved is void"))
    for job in reply["ended"]:
        click.echo(printable(f"ended {job}, which rested on their approval"))


@click.group("clock", cls=Noun, epilog=example("appliance clock extend --request time.request"))
def clock_command() -> None:
    """Tell the appliance what time it is, by the word of officers: no clock is trusted."""


@clock_command.command("extend", epilog=example("appliance clock extend --request time.request"))
@request_option
@pass_session
def extend_command(session: Session, *, request: str) -> None:
    """Set the floor of time, by which bundles expire, to the moment that an approved request names."""
    reply = session.call("ExtendClock", {"request": request_id(request)})
    click.echo(printable(f"the time is at least {reply['floor']}"))
