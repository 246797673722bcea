"""The root of the command line: the table of verbs, and the one place where errors become exit codes.

Guaranteed: `appliance --help` imports no module of any verb; a verb's module is imported when it is typed.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from appliance.cli.failures import BROKEN_PIPE, INTERRUPTED, Failure, as_failure, exit_codes
from appliance.cli.session import DEFAULT_HOME, HOME_VARIABLE, Session, absolute_home, example
from appliance.provenance import verify_provenance


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table: a verb, the module under `appliance.cli` that holds it, its one-line help."""

    name: str
    module: str
    summary: str

    def load(self) -> click.Command:
        """Import the module and return its command, which is called `<name>_command`."""
        module = importlib.import_module(f"appliance.cli.{self.module}")
        command = getattr(module, f"{self.name.replace('-', '_')}_command")
        if not isinstance(command, click.Command):
            raise TypeError(f"appliance.cli.{self.module} has no command for {self.name}")
        return command


SECTIONS = (
    (
        "Begin",
        (
            Entry("init", "init", "Make a new appliance: its keys, its log, the people it trusts."),
            Entry("daemon", "daemon", "Start the appliance on this host."),
            Entry("shutdown", "daemon", "End the daemon and its jobs; last checkpoints stand."),
            Entry("unseal", "seal", "Open the vault with the unseal secret."),
            Entry("seal", "seal", "Close the vault: its keys leave memory."),
            Entry("status", "status", "Show what the appliance is and does, on one screen."),
            Entry("doctor", "doctor", "Check this host and this home, and say how to mend them."),
        ),
    ),
    (
        "Train",
        (
            Entry("config", "config", "Check, write out and explain training configs (no daemon needed)."),
            Entry("objects", "objects", "List the sealed objects."),
            Entry("train", "train", "Train a model from a sealed config, and watch it."),
            Entry("jobs", "train", "List jobs."),
            Entry("watch", "train", "Follow a job."),
            Entry("report", "report", "Draw one job as a page: curves, lineage, decisions, proof."),
            Entry("compare", "compare", "Show two jobs side by side."),
            Entry("stop", "train", "Stop a job after its present step, with a checkpoint."),
            Entry("account", "account", "Show what a job computed, and how fast."),
            Entry("sample", "sample", "Let a model continue a text."),
            Entry("evaluate", "evaluate", "Measure how well a model predicts a corpus."),
            Entry("replay", "replay", "Compute a stretch of a job again and compare it with the log."),
        ),
    ),
    (
        "Across the gap",
        (
            Entry("keygen", "keygen", "Make keys for signers and recipients."),
            Entry("bundle", "bundle", "Pack, check and open transfer bundles (no daemon needed)."),
            Entry("root", "roots", "Say who may sign which bundles, by k of n keys (no daemon needed)."),
            Entry(
                "verify-receipt",
                "receipts",
                "Check the receipt of a bundle that you sent (no daemon needed).",
            ),
            Entry("media", "media", "List removable media and the bundles on them (no daemon needed)."),
            Entry("import", "transfer", "Take a bundle into the vault."),
            Entry("request", "approval", "Write a request for officers to sign."),
            Entry("policy", "policy", "Check, test, compare and load the rules that decide."),
            Entry("approve", "approval", "Hand in an officer's signature of a request."),
            Entry("officers", "officers", "List those who may approve, and change them by their word."),
            Entry("clock", "officers", "Tell what time it is, by officers' word."),
            Entry("release", "release", "Say below which version no release starts here again."),
            Entry("export", "transfer", "Write a signed model for one recipient."),
        ),
    ),
    (
        "Proof and recovery",
        (
            Entry("verify-model", "verify_model", "Check an exported model folder (no daemon needed)."),
            Entry(
                "recompute", "replay", "Compute training steps again from opened objects (no daemon needed)."
            ),
            Entry("log", "log", "Take the tree head or a receipt out of the audit log."),
            Entry("audit", "audit", "Look after the audit log: witnesses, its key, salts for auditors."),
            Entry("shred", "shred", "End an object for good, by two officers' word."),
            Entry("backup", "backup", "Copy the appliance, ciphertext only; prove that a copy opens."),
            Entry("catalog", "catalog", "Make the catalog anew from the log."),
            Entry("restore-log", "restore", "Make an appliance of a backup; its new log names the old one."),
            Entry("custody", "custody", "Show and change how the vault is opened; new shares."),
            Entry("keys", "keys", "Rotate the vault's key; recover it for offline keeping."),
            Entry("rollback", "rollback", "Go back to the release that was installed before."),
            Entry("completion", "completion", "Print what makes a shell complete these commands."),
            Entry("manual", "manual", "Write the manual pages, or the reference as one page."),
            Entry("version", "status", "Print the version."),
        ),
    ),
)
ENTRIES = {entry.name: entry for _, entries in SECTIONS for entry in entries}


class Root(click.Group):
    """The group `appliance`; verbs come from `ENTRIES`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return every verb, in the order of the table."""
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  click's
        """Load the verb's module, or return None for a verb that does not exist."""
        entry = ENTRIES.get(cmd_name)
        return None if entry is None else entry.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click's
        """List the verbs by section without importing any."""
        for title, entries in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(entry.name, entry.summary) for entry in entries])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the verbs and this group's options without importing a verb's module."""
        verbs = [
            CompletionItem(e.name, help=e.summary) for e in ENTRIES.values() if e.name.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the exit codes, then the example."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in exit_codes()])
        super().format_epilog(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; every way to fail leaves here as a click exception with its exit code."""
        try:
            verify_provenance()  # before the verb's module is imported
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that went away is noticed here, not at interpreter exit
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, EOFError, click.Abort) as stop:  # Ctrl-C, or Ctrl-D at a prompt
            raise Failure("interrupted", INTERRUPTED, cause=None, debug=False) from stop
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE and not error.filename:
                _silence_stdout()
                ctx.exit(BROKEN_PIPE)
            session = ctx.find_object(Session)  # none where the group's own code was not reached
            debug = session.debug if session else bool(ctx.params.get("debug"))
            raise as_failure(error, debug=debug) from error
        return result


def _silence_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush does not fail again."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


@click.group(
    cls=Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=example("appliance --home /srv/appliance status"),
)
@click.option(
    "--home",
    envvar=HOME_VARIABLE,
    default=DEFAULT_HOME,
    show_default=True,
    show_envvar=True,
    help="Folder of the appliance.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def appliance(context: click.Context, *, home: str, debug: bool) -> None:
    """Train language models on weights that stay encrypted at rest, behind rules and a signed log."""
    context.obj = Session(home=absolute_home(home), debug=debug)


def main() -> None:
    """Run the command line; ends the process with the exit code."""
    appliance(prog_name="appliance")
