"""The unseal secret on its way from a person to the daemon: typed or read from a descriptor, then a pipe.

It is never taken from argv or the environment, where every process of this user could read it, and never part
of a message: the daemon gets the read end of a pipe. KNOWN: Python's terminal input makes an immutable string
of it; this process ends right after.
"""

from __future__ import annotations

import getpass
import os
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from appliance.errors import UsageError, WrongSecret

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SECRET_BYTES = 4096  # less than a pipe's buffer, so that writing never blocks

passphrase_fd_option = click.option(
    "--passphrase-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Read the passphrase, PIN, or shares (one a line) from this open descriptor, not the terminal.",
)


def obtain(passphrase_fd: int | None, prompt: str, *, twice: bool = False) -> bytearray:
    """Return the secret from the descriptor if one is given, else from the terminal.

    Raises UsageError without a terminal, WrongSecret where it is empty, too long, or typed differently twice.
    """
    secret = _ask(prompt, twice=twice) if passphrase_fd is None else read_descriptor(passphrase_fd)
    if not 0 < len(secret) <= MAX_SECRET_BYTES:
        raise WrongSecret(f"{prompt}: expected 1 to {MAX_SECRET_BYTES} bytes, found {len(secret)}")
    return secret


def read_descriptor(descriptor: int, limit: int = MAX_SECRET_BYTES) -> bytearray:
    """Read to the end, or past the limit; one newline at the end belongs to `echo`, not to the secret."""
    try:
        with open(descriptor, "rb", buffering=0, closefd=False) as source:
            secret = bytearray()
            while len(secret) <= limit and (piece := source.read(limit)):
                secret += piece
    except OSError as unreadable:
        message = (
            f"--passphrase-fd {descriptor}: expected an open, readable descriptor ({unreadable.strerror})"
        )
        raise UsageError(message) from unreadable
    if secret.endswith(b"\n"):
        del secret[-1:]
    return secret


def _ask(prompt: str, *, twice: bool) -> bytearray:
    if not has_terminal():
        raise UsageError(
            "passphrase: no terminal to ask on; give --passphrase-fd N, for example 3 with `3<FILE`"
        )
    first = getpass.getpass(f"{prompt}: ")
    if twice and getpass.getpass(f"{prompt} again: ") != first:
        raise WrongSecret("passphrase: the two entries differ; nothing was written. Repeat the command")
    # The same letters typed on another system may arrive decomposed; one form makes one secret.
    return bytearray(unicodedata.normalize("NFC", first).encode("utf-8", "surrogateescape"))


def has_terminal() -> bool:
    """Say whether somebody can be asked: else getpass would read standard input, and show what is typed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


@contextmanager
def as_pipe(secret: bytearray) -> Iterator[int]:
    """Yield the read end of a pipe that holds exactly the secret; wipes the secret."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            os.write(write_end, secret)
        finally:
            os.close(write_end)
            secret[:] = bytes(len(secret))
        yield read_end
    finally:
        os.close(read_end)
