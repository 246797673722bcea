"""Which release runs, and below which version none may: officers say so once an update has proved itself."""

from __future__ import annotations

import click

from appliance import __version__
from appliance.cli.files import request_id
from appliance.cli.output import emit_facts, emit_json
from appliance.cli.session import Session, Verb, example, json_option, pass_session
from appliance.release.installed import running_release


@click.command("release", cls=Verb, epilog=example("appliance release --request floor.request"))
@click.option("--request", metavar="FILE_OR_ID", help="The floor that officers approved, to put in force.")
@json_option
@pass_session
def release_command(session: Session, *, request: str | None, as_json: bool) -> None:
    """Show release and floor of the appliance; with --request, raise the floor.

    `appliance request release VERSION` asks for it. No release below the floor starts here again.
    """
    reply = session.call("ReleaseFloor", {} if request is None else {"request": request_id(request)})
    folder = running_release()
    told = {"version": __version__, "floor": reply["floor"], "installed": str(folder) if folder else ""}
    if as_json:
        emit_json(told)
    else:
        emit_facts([(name, value) for name, value in told.items() if value])
