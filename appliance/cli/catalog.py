"""The catalog as a file: making it anew from the log."""

from __future__ import annotations

import click

from appliance.cli.output import emit_facts, emit_json
from appliance.cli.session import Noun, Session, example, json_option, pass_session


@click.group("catalog", cls=Noun, epilog=example("appliance catalog rebuild"))
def catalog_command() -> None:
    """Mend the catalog, while the daemon is stopped."""


@catalog_command.command("rebuild", epilog=example("appliance catalog rebuild"))
@json_option
@pass_session
def rebuild(session: Session, *, as_json: bool) -> None:
    """Make catalog.db anew from the log; the one of before is kept beside it. Works offline.

    Objects, parents, tombstones and bundle numbers come from the log. Jobs and requests come from the catalog
    of before, as far as it can be read; a request that is lost is made and approved anew.
    """
    from appliance.home import Home  # noqa: PLC0415  loads what only this verb needs
    from appliance.rebuild import rebuild_catalog  # noqa: PLC0415  loads cryptography, policy and log

    made = rebuild_catalog(Home(session.home))
    facts = {
        "objects": made.objects,
        "carried": made.carried,
        "lost": made.lost,
        "before": str(made.before) if made.before else None,
    }
    if as_json:
        emit_json(facts)
        return
    emit_facts([(name, str(value)) for name, value in facts.items() if value is not None])
    click.echo("next: start the daemon; it compares the new catalog with the log, and logs this")
