"""What one run of a command knows: which appliance, and whether tracebacks are wanted.

The home is `--home`, else APPLIANCE_HOME, else `~/.appliance`. `--home` and `--debug` may stand before or
after the verb.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from appliance.client import Client

DEFAULT_HOME = "~/.appliance"
HOME_VARIABLE = "APPLIANCE_HOME"


@dataclass(slots=True)
class Session:
    """Options shared by all verbs; an option after the verb overrides the one before it."""

    home: Path
    debug: bool = False

    def connect(self) -> Client:
        """Connect to this home's daemon. Raises NotRunning."""
        # Late, so that verbs which need no daemon do not pay for the client.
        from appliance.client import connect  # noqa: PLC0415  loaded only by verbs that talk to the daemon

        return connect(self.home)

    def call(self, method: str, parameters: Mapping[str, object], fds: Sequence[int] = ()) -> dict[str, Any]:
        """Make one call on a connection of its own; null parameters are left out."""
        with closing(self.connect()) as client:
            return client.call(method, without_nulls(parameters), fds)

    def stream(
        self, method: str, parameters: Mapping[str, object], fds: Sequence[int] = ()
    ) -> Iterator[dict[str, Any]]:
        """Make one call that answers item by item; the connection ends with the iteration.

        The stream's last reply carries nothing but its end: all null, and not passed on.
        """
        with closing(self.connect()) as client:
            for item in client.stream(method, without_nulls(parameters), fds):
                if any(value is not None for value in item.values()):
                    yield item


def without_nulls(parameters: Mapping[str, object]) -> dict[str, object]:
    """Drop parameters that were not given: in varlink an absent nullable is null."""
    return {name: value for name, value in parameters.items() if value is not None}


def absolute_home(text: str) -> Path:
    """Resolve `~` and the working directory; the folder need not exist yet."""
    return Path(text).expanduser().absolute()


def _override_home(context: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Session).home = absolute_home(value)


def _override_debug(context: click.Context, _option: click.Parameter, value: object) -> None:
    if value:
        context.ensure_object(Session).debug = True


class Verb(click.Command):
    """A command that takes `--home` and `--debug` after its name as well (documented once, on the root)."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters and the two shared ones."""
        shared: list[click.Parameter] = [
            click.Option(["--home"], hidden=True, expose_value=False, callback=_override_home),
            click.Option(
                ["--debug"], is_flag=True, hidden=True, expose_value=False, callback=_override_debug
            ),
        ]
        return [*super().get_params(ctx), *shared]


class Noun(click.Group):
    """A command with verbs of its own, such as `bundle create`."""

    command_class = Verb


pass_session = click.make_pass_decorator(Session)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def example(line: str) -> str:
    """Format the one example that each help text ends with."""
    return f"\b\nExample:\n  {line}"
