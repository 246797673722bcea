"""Jobs: starting one, following it, stopping it.

Jobs belong to the daemon: to stop watching one is not to stop it.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.account import share_text
from appliance.cli.failures import INTERRUPTED
from appliance.cli.following import followed
from appliance.cli.output import emit_json, emit_json_line, emit_table, printable
from appliance.cli.progress import ENDS, Lines
from appliance.cli.session import Session, Verb, example, json_option, pass_session
from appliance.cli.terminal import console, is_terminal
from appliance.errors import ApplianceError, ContentRefused, JobFailed, ProtocolError, UsageError
from appliance.training.config import MAX_CONFIG_BYTES, parse_config

if TYPE_CHECKING:
    from appliance.cli.live import Screen


@click.command("train", cls=Verb, epilog=example("appliance train small --name first-run"))
@click.argument("config", required=False)
@click.option("--name", help="Name of the job and of the model it makes.")
@click.option("--resume", metavar="JOB", help="Go on from the last checkpoint of this job.")
@click.option("--ranks", type=click.IntRange(min=1), help="Workers that share each batch, through MPI (1).")
@click.option("--detach", is_flag=True, help="Print the job's id and return.")
@json_option
@pass_session
def train_command(
    session: Session,
    *,
    config: str | None,
    name: str | None,
    resume: str | None,
    ranks: int | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Train a model from CONFIG, the name of a sealed config, and follow the job.

    In the development profile CONFIG may also be a path that ends in .toml; the file is sealed first.
    Ctrl-C leaves the job running.
    """
    if (config is None) == (resume is None):
        message = "train: expected either CONFIG or --resume JOB; next: `appliance objects --kind config`"
        raise UsageError(message)
    with ExitStack() as open_files:
        parameters: dict[str, object] = {"name": name, "resume": resume, "ranks": ranks}
        fds: list[int] = []
        if config is not None and is_config_file(config):
            source = open_files.enter_context(Path(config).open("rb")).fileno()
            check_config(source, config)
            fds.append(source)
            parameters |= {"source_fd": 0, "source_name": Path(config).stem}
        else:
            parameters["config"] = config
        job = str(session.call("Train", parameters, fds)["job"])
    if as_json:
        emit_json_line({"job": job})
    else:
        click.echo(printable(job if detach else f"job {job}"))
    if not detach:
        follow(session, job, after=0, as_json=as_json)


def is_config_file(config: str) -> bool:
    """Tell a path from the name of a sealed config: it ends in .toml and there is such a file."""
    return config.endswith(".toml") and Path(config).is_file()


def check_config(source: int, where: str) -> None:
    """Judge a config before it is handed over; raises ContentRefused with the key, expected and found.

    The daemon has it judged again in a jail, but a worker's words stay inside: only here is the key named.
    """
    try:
        parse_config(os.pread(source, MAX_CONFIG_BYTES + 1, 0))
    except ContentRefused as refused:
        raise ContentRefused(f"{where}: {refused}\nnext: correct the file and repeat") from refused


@click.command("watch", cls=Verb, epilog=example("appliance watch train-7f3a9c51e2d0"))
@click.argument("job")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Skip events up to this number.")
@json_option
@pass_session
def watch_command(session: Session, *, job: str, after: int, as_json: bool) -> None:
    """Follow JOB from its first event until it ends. Ctrl-C leaves it running."""
    follow(session, job, after=after, as_json=as_json)


def follow(session: Session, job: str, *, after: int, as_json: bool) -> None:
    """Show a job's events until it ends; Ctrl-C ends the watching only, with exit code 130.

    Raises JobFailed where the job failed.
    """
    display = None if as_json else _display(session, job)
    event: dict[str, Any] = {"kind": "none"}
    try:
        for event in followed(session, job, after, lambda text: click.echo(text, err=True)):
            if display is None:
                emit_json_line(event)
            else:
                display.show(event)
    except KeyboardInterrupt:
        if display is not None:
            display.leave()
        click.echo(detached_text(job), err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    finally:
        if display is not None:
            display.leave()
    if event["kind"] == "failed":
        reason = event.get("reason") or "no reason was given"
        raise JobFailed(f"job {job} failed at step {event['step']} of {event['steps']}: {reason}")
    if event["kind"] not in ENDS:
        raise ProtocolError(
            f"the daemon ended the report on job {job} before the job ended; next: `appliance jobs`"
        )


def _display(session: Session, job: str) -> Lines | Screen:
    """Return what shows a job's events here: a picture on a terminal, lines elsewhere."""
    if not is_terminal():
        return Lines(sys.stdout, clock=time.monotonic)
    from appliance.cli.live import Screen  # noqa: PLC0415  loads rich, which only a terminal needs

    return Screen(job, console(), lambda: _share(session, job))


def _share(session: Session, job: str) -> str:
    """Ask for the share of the peak; "" where the rules keep it back or nothing is known."""
    try:
        return share_text(session.call("ShowAccount", {"job": job})["account"])
    except ApplianceError:
        return ""


def detached_text(job: str) -> str:
    """Say what Ctrl-C did, and the two commands that a person may want now."""
    return printable(f"detached: job {job} goes on.\n  appliance watch {job}\n  appliance stop {job}")


@click.command("jobs", cls=Verb, epilog=example("appliance jobs --json"))
@json_option
@pass_session
def jobs_command(session: Session, *, as_json: bool) -> None:
    """List jobs, running and ended."""
    jobs = [item["job"] for item in session.stream("ListJobs", {})]
    if as_json:
        emit_json(jobs)
    elif not jobs:
        click.echo("no jobs yet; `appliance train CONFIG` starts one")
    else:
        emit_table(
            ("JOB", "NAME", "STATE", "STEP", "PEAK", "OWNER", "CREATED", "REASON"),
            (
                (
                    job["id"],
                    job["name"],
                    job["state"],
                    f"{job['step']}/{job['steps']}" if job["steps"] else "-",
                    share_text(job["account"]) if job["account"] else "-",
                    job["owner"],
                    job["created"],
                    job["reason"],
                )
                for job in jobs
            ),
        )


@click.command("stop", cls=Verb, epilog=example("appliance stop train-7f3a9c51e2d0"))
@click.argument("job")
@pass_session
def stop_command(session: Session, *, job: str) -> None:
    """Stop JOB after its present step, with a checkpoint; `appliance train --resume JOB` goes on from it."""
    state = session.call("Stop", {"job": job})["state"]
    click.echo(printable(f"job {job}: {state}"))
