"""How a command ends when something is wrong: what happened, the next step, one stable exit code.

Guaranteed to people and scripts: every error that the packages raise on purpose becomes `error: …` on
standard error and the exit code of its class; everything else becomes one line and exit code 1, with the
traceback only under `--debug`. Text that came from elsewhere cannot drive the terminal.
"""

from __future__ import annotations

import errno
import traceback
from typing import IO, Any

import click

from appliance.cli.output import printable
from appliance.errors import ApplianceError, by_code

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader of our output went away

# The root of each package's errors, by name: comparing names keeps `--help` from importing all of them.
ERROR_ROOTS = frozenset(
    {
        ("appliance.errors", "ApplianceError"),
        ("audit.errors", "AuditError"),
        ("policy.errors", "PolicyError"),
        ("kernels.errors", "KernelError"),
    }
)

# Faults of the operating system that have a place in the table; any other is our own (1).
EXIT_OF_ERRNO = {
    errno.ENOENT: 4,
    errno.ENOTDIR: 4,
    errno.ENODEV: 4,
    errno.ENXIO: 4,
    errno.EIO: 4,
    errno.ENOSPC: 5,
    errno.EDQUOT: 5,
    errno.EEXIST: 21,
}

NEXT_STEP = {
    4: "check the path, and that the medium is plugged in and mounted",
    5: "free some space and repeat: nothing half-written was kept",
    6: "do not use these bytes; take a fresh copy from where they were made",
    7: "ask who signed, and with which key; `appliance init` enrols signers and officers",
    8: "docs/policy.md explains the codes; an export waits for two officers' `appliance approve`",
    9: "ask the sender for a newer bundle; for a used request, make another with `appliance request`",
    10: "ask for a newer one",
    11: "check the name of the appliance in `appliance status` and who it was made for",
    12: "check that it is the file you meant; correct it where it was made, and pack a bundle anew",
    13: "check the path (a bundle's folder ends in .bundle); if it is right, copy the whole folder again",
    14: "`appliance unseal`",
    15: "`appliance doctor` names each finding and how to mend it",
    16: "`appliance status` and `appliance jobs` show who holds it",
    17: "give the log folder space and its rights back, then restart with `appliance daemon`",
    18: "`appliance daemon --detach` starts it",
    19: "check the keyboard layout, the share or the PIN, and try again",
    20: "`appliance objects` and `appliance jobs` list what there is",
    21: "choose another name, or move the old one away",
    22: "`appliance doctor` says what this host lacks",
    23: "`appliance jobs` shows the last checkpoint's step; `appliance train --resume JOB` goes on from it",
    24: "compare `appliance version` with the version in `appliance status`",
    25: "put the newest copy of the part that is named back; `appliance catalog rebuild` mends the catalog",
    26: "plug the token in or give this user the TPM's device; the message names the extra where one lacks",
    27: "boot what the key was sealed to; or unseal with the recovery identity, then `custody rotate`",
}


class Failure(click.ClickException):
    """An error on its way out: click shows it and ends the process with `exit_code`."""

    def __init__(self, message: str, exit_code: int, *, cause: BaseException | None, debug: bool) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc] # click reads it off the instance
        self.cause = cause
        self.debug = debug

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message, and under `--debug` the traceback, to standard error."""
        if self.debug and self.cause is not None:
            click.echo("".join(traceback.format_exception(self.cause)).rstrip(), file=file, err=True)
        click.echo(self.message, file=file, err=True)


def is_ours(error: BaseException) -> bool:
    """Tell whether the error was raised on purpose, by any of the four packages."""
    return any((cls.__module__, cls.__name__) in ERROR_ROOTS for cls in type(error).__mro__)


def as_failure(error: Exception, *, debug: bool) -> Failure:
    """Turn an exception into what a person reads and a script tests."""
    if is_ours(error):
        code = int(getattr(error, "exit_code", 1))
        return Failure(with_next_step(str(error), code), code, cause=error, debug=debug)
    if isinstance(error, OSError) and (error.filename is not None or error.errno in EXIT_OF_ERRNO):
        code = EXIT_OF_ERRNO.get(error.errno or 0, 1)
        where = f"{error.filename}: " if error.filename is not None else ""
        return Failure(with_next_step(f"{where}{error.strerror}", code), code, cause=error, debug=debug)
    what = printable(f"{type(error).__name__}: {error}".splitlines()[0])
    return Failure(
        f"error: internal: {what}\nnext: repeat with --debug for the traceback", 1, cause=error, debug=debug
    )


def with_next_step(what: str, exit_code: int) -> str:
    """Compose the two lines. A message that names its own next step is left as it is."""
    message = f"error: {printable(what) or 'no reason was given'}"
    says_it = "next:" in what or "`" in what
    hint = NEXT_STEP.get(exit_code)
    return message if says_it or hint is None else f"{message}\nnext: {hint}"


def exit_codes() -> list[tuple[int, str]]:
    """Return the table that `appliance --help` prints, read off the error classes."""
    classes: list[type[ApplianceError]] = sorted(by_code().values(), key=lambda cls: cls.exit_code)
    rows = [
        (cls.exit_code, (cls.__doc__ or "").splitlines()[0].rstrip("."))
        for cls in classes
        if cls.exit_code > 1
    ]
    ends = [
        (INTERRUPTED, "Interrupted by Ctrl-C; a job that was watched goes on"),
        (BROKEN_PIPE, "The reader of the output went away"),
    ]
    return [(0, "Done"), (1, "A fault of our own; --debug shows where"), *rows, *ends]
