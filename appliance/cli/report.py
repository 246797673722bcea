"""The page on one job, drawn from what the caller may see."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli.files import write_new
from appliance.cli.gathering import gathered, log_key_of
from appliance.cli.session import Session, Verb, example, pass_session
from appliance.errors import UsageError


@click.command("report", cls=Verb, epilog=example("appliance report train-7f3a9c51e2d0 --out first-run.html"))
@click.argument("job")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write the page to."
)
@click.option(
    "--log-key",
    type=click.Path(path_type=Path),
    help="The log's public key (log.vkey), from where you keep it; left out, the appliance's own copy.",
)
@click.option("--prompt", help="Have each kept version go on from this text, and show how; counts as text.")
@pass_session
def report_command(
    session: Session, *, job: str, out: Path, log_key: Path | None, prompt: str | None
) -> None:
    """Draw what is known of JOB as one self-contained page: curves, lineage, decisions, proof.

    It needs the extra `report`. What the rules do not show you is named as not shown.
    """
    # Late: the pictures' library takes a second to load, which no other verb has to wait for.
    try:
        from appliance.report.page import page  # noqa: PLC0415
    except ImportError as missing:
        raise UsageError(
            f"report: expected the extra `report`, found no {missing.name}; "
            "next: `pip install training-appliance[report]`"
        ) from missing
    sources = gathered(session, job, log_key_of(session, log_key), prompt)
    write_new(out, page(sources))
    click.echo(f"{out}: job {job}, {len(sources.entries)} log entries verified")
