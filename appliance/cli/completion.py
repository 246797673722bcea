"""Completion of verbs and options in a shell, by click's own scripts.

Names of jobs and objects are not offered: to list them is a decision, which would stand in the log at every
press of the key.
"""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from appliance.cli.session import Verb, example

PROGRAM = "appliance"
VARIABLE = "_APPLIANCE_COMPLETE"  # the name by which click's `main` answers the scripts
SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(
    "completion",
    cls=Verb,
    epilog=example("appliance completion bash > ~/.local/share/bash-completion/appliance"),
)
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@click.pass_context
def completion_command(context: click.Context, *, shell: str) -> None:
    """Print the script with which SHELL completes `appliance`; put it where that shell looks."""
    script = SHELLS[shell](context.find_root().command, {}, PROGRAM, VARIABLE)
    click.echo(script.source_template % script.source_vars())
