"""Starting and ending the daemon.

The custodian always begins by exec: nothing of this program, click included, stays in the process that holds
the keys. Detached, it gets a session of its own, and this command returns only once its socket answers.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from appliance.cli.output import printable
from appliance.cli.session import Session, Verb, example, pass_session
from appliance.errors import ApplianceError, JobFailed, NotRunning, UnknownObject

START_TIMEOUT_S = 60.0  # recovery rereads the log's tail; passphrase costs do not fall into the start
STOP_TIMEOUT_S = 120.0  # running jobs save a checkpoint first
POLL_S = 0.05
DIAGNOSTICS = "daemon.err"  # in <home>/run: what the detached custodian says before its log is open
MAX_DIAGNOSTIC_BYTES = 8192


def custodian_command(home: Path) -> list[str]:
    """Return the argument list of the custodian; `-I`: imports heed no environment or folder."""
    return [sys.executable, "-I", "-m", "appliance.custodian", str(home)]


@click.command("daemon", cls=Verb, epilog=example("appliance daemon --detach"))
@click.option(
    "--foreground/--detach",
    default=True,
    help="Stay in this terminal (default), or return once the socket answers.",
)
@pass_session
def daemon_command(session: Session, *, foreground: bool) -> None:
    """Start the appliance: the custodian, which starts front and workers itself."""
    if not session.home.is_dir():
        raise UnknownObject(f"no appliance in {session.home}: make one with `appliance init`")
    command = custodian_command(session.home)
    if foreground:
        sys.stdout.flush()
        os.execv(command[0], command)  # noqa: S606  exec without a shell is the point
    pid = start_detached(session, command)
    click.echo(f"running, pid {pid}")


def start_detached(session: Session, command: list[str]) -> int:
    """Start the custodian in its own session and return its pid once it answers.

    Where it ends first, its words go to standard error and this process ends with its exit code.
    """
    diagnostics = session.home / "run" / DIAGNOSTICS
    diagnostics.parent.mkdir(mode=0o750, exist_ok=True)
    said_before = diagnostics.stat().st_size if diagnostics.exists() else 0
    # posix_spawn rather than Popen: the child outlives this process on purpose.
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (
                os.POSIX_SPAWN_OPEN,
                2,
                diagnostics,
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW,
                0o600,
            ),
        ],
        setsid=True,
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _end_as(status, _said_since(diagnostics, said_before))
        if _answering_pid(session) == pid:
            return pid
        time.sleep(POLL_S)
    message = (
        f"the daemon (pid {pid}) did not answer within {START_TIMEOUT_S:.0f} s; next: read {diagnostics}"
    )
    raise NotRunning(message)


def _answering_pid(session: Session) -> int | None:
    """Return the pid of whoever answers on the socket: an older daemon is not the one just started.

    None while nobody listens; what a daemon that listens refuses is raised.
    """
    try:
        return int(session.call("Status", {})["pid"])
    except NotRunning:
        return None


def _said_since(diagnostics: Path, offset: int) -> str:
    """Return what this start said to people; the daemon's own log, in JSON lines, stays in the file."""
    with diagnostics.open("rb") as source:
        source.seek(offset)
        lines = source.read(MAX_DIAGNOSTIC_BYTES).decode("utf-8", "replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("{"))


def _end_as(wait_status: int, said: str) -> None:
    """End this process as the custodian ended."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code == 0:
        raise NotRunning(
            "the daemon ended at once without an error; next: `appliance daemon --foreground` shows why"
        )
    if code < 0:
        raise JobFailed(
            f"the daemon was killed by signal {-code} while starting; next: `appliance daemon --foreground`"
        )
    click.echo(printable(said) or f"error: the daemon ended with exit code {code} and no word", err=True)
    raise click.exceptions.Exit(code)


@click.command("shutdown", cls=Verb, epilog=example("appliance shutdown"))
@pass_session
def shutdown_command(session: Session) -> None:
    """End the daemon and its jobs, whose last checkpoints stand; returns when it is gone."""
    pid = int(session.call("Status", {})["pid"])
    session.call("Shutdown", {})
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while _alive(pid):
        if time.monotonic() > deadline:
            message = (
                f"the daemon (pid {pid}) still runs after {STOP_TIMEOUT_S:.0f} s; next: `appliance jobs`"
            )
            raise ApplianceError(message)
        time.sleep(POLL_S)
    click.echo("stopped")


def _alive(pid: int) -> bool:
    """Tell whether a process still runs; one that ended and was not yet waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # The state follows the name, which stands in brackets and may itself hold any byte: proc(5).
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")
