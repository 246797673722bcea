"""Going back to the release that was installed before; needs no daemon, and ends none."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli.session import Verb, example
from appliance.errors import UsageError
from appliance.release.installed import running_release
from appliance.release.rollback import roll_back


@click.command("rollback", cls=Verb, epilog=example("appliance rollback"))
@click.option(
    "--prefix",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where releases are installed.  [default: where this one is]",
)
def rollback_command(*, prefix: Path | None) -> None:
    """Start the release before this one from now on; once more comes back."""
    release = running_release()
    if prefix is None and release is None:
        raise UsageError("this program was not installed by install.sh: name the folder with --prefix")
    folder = prefix if prefix is not None else release.parent.parent if release else Path()
    left, back = roll_back(folder)
    click.echo(
        f"{folder}/current is {back} now, and was {left}; a running daemon goes on with what it began with:"
    )
    click.echo("end it with `appliance shutdown`, then start it again")
