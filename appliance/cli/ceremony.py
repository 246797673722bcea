"""What people give and get when a vault is opened or its custody changes: passphrase, PIN, shares.

Shares are a ceremony: several people, one after the other, at one terminal or one descriptor. Each share is
judged as it is entered; one that is mistyped, repeated or of another set is refused aloud, and the ceremony
goes on. Shares that are handed out are shown one at a time on a screen of their own, which is erased.

KNOWN: the terminal's input arrives as immutable strings; this process ends right after.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from appliance.cli.output import printable
from appliance.cli.passphrase import has_terminal, obtain, read_descriptor
from appliance.custody.uri import what_is_asked
from appliance.errors import ProtocolError, UsageError, WrongSecret

MAX_SHARES_BYTES = 16 * 1024
_OWN_SCREEN, _FORMER_SCREEN = "\x1b[?1049h\x1b[2J\x1b[H", "\x1b[2J\x1b[?1049l"


def obtain_secret(status: Mapping[str, Any], descriptor: int | None) -> bytearray | None:
    """Return what opens the custody of a CustodyStatus reply, None where nobody is asked.

    Raises UsageError, WrongSecret.
    """
    asks = status["asks"]
    if asks == "shares":
        return collect_shares(status["shares"], descriptor)
    if asks == "PIN":
        warn_of_tries(status["device"], descriptor)
    if asks or descriptor is not None:
        return obtain(descriptor, asks or "passphrase")
    return None


def obtain_new_secret(uri: str, descriptor: int | None) -> bytearray | None:
    """Return what a new custody needs from a person: a passphrase typed twice, a token's PIN, or nothing."""
    asks = what_is_asked(uri)
    if asks == "passphrase":
        return obtain(descriptor, "new passphrase", twice=True)
    if asks == "PIN":
        return obtain(descriptor, "PIN of the token")
    return None


def warn_of_tries(said: str, descriptor: int | None) -> None:
    """Say what the token says about its PIN before it is asked for; a last try is never taken by a script."""
    if not said:
        return
    click.echo(f"warning: token: {printable(said)}", err=True)
    if "ONE TRY" in said:
        if descriptor is not None:
            raise UsageError("token: one try is left: give the PIN at a terminal, not from a descriptor")
        click.confirm("Use the last try?", abort=True, err=True)


def collect_shares(
    share_set: Mapping[str, Any], descriptor: int | None, wanted: int | None = None
) -> bytearray:
    """Hold the ceremony and return its shares, one a line; `wanted` of them, or as many as open the set.

    Raises UsageError without a terminal, WrongSecret where a descriptor ends too early.
    """
    # Late, as only ceremonies need it.
    from appliance.custody.shamir import Ceremony, ShareSet  # noqa: PLC0415  loads the word list

    of = ShareSet(share_set["threshold"], share_set["shares"], share_set["identifier"])
    ceremony = Ceremony(of, wanted)
    entered = _from_terminal(ceremony) if descriptor is None else _lines(descriptor)
    for line in entered:
        try:
            number = ceremony.add(line)
        except WrongSecret as refused:
            click.echo(f"refused: {refused}", err=True)
            continue
        click.echo(f"share {number} of {of.shares} taken, {ceremony.missing} to go", err=True)
        if not ceremony.missing:
            return ceremony.lines()
    raise WrongSecret(f"shares: expected {ceremony.wanted} of set {of.identifier}, found too few")


def hand_out(shares: Sequence[bytearray | str], threshold: int, descriptor: int | None) -> None:
    """Show each share to its holder alone, or write all to a descriptor, one a line. Raises UsageError."""
    if descriptor is not None:
        with open(descriptor, "wb", buffering=0, closefd=False) as out:
            out.writelines(_text(share).encode("ascii") + b"\n" for share in shares)
        return
    if not has_terminal():
        raise UsageError(
            "shares: no terminal to show them on; give --shares-fd N, for example 4 with `4>FILE`"
        )
    with Path("/dev/tty").open("w", encoding="ascii") as terminal:
        for number, share in enumerate(shares, 1):
            terminal.write(_OWN_SCREEN)
            terminal.write(
                f"Share {number} of {len(shares)}; any {threshold} of them open the vault.\n"
                "For its holder's eyes alone: write it down, check it word by word.\n\n"
                f"{_in_rows(_text(share).split())}\n\n"
            )
            terminal.flush()
            getpass.getpass("Enter hides it, and shows the next to the next holder: ")
            terminal.write(_FORMER_SCREEN)
            terminal.flush()


@contextmanager
def shares_pipe() -> Iterator[tuple[int, Callable[[], list[str]]]]:
    """Yield a pipe's write end for the daemon, and what reads the shares from it after the call."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    closed = False

    def receive() -> list[str]:
        nonlocal closed
        os.close(write_end)
        closed = True
        received = bytearray()
        while piece := os.read(read_end, MAX_SHARES_BYTES):
            received += piece
        shares = received.decode("ascii", "replace").split("\n")[:-1]
        received[:] = bytes(len(received))
        if not shares:
            raise ProtocolError("expected shares on the pipe, found none; next: `appliance custody status`")
        return shares

    try:
        yield write_end, receive
    finally:
        os.close(read_end)
        if not closed:
            os.close(write_end)


def _text(share: bytearray | str) -> str:
    return share if isinstance(share, str) else share.decode("ascii")


def _in_rows(words: Sequence[str]) -> str:
    """Set the words in rows of three, each with its number, as one reads them aloud."""
    cells = [f"{place:2} {word:10}" for place, word in enumerate(words, 1)]
    return "\n".join("  ".join(cells[at : at + 3]).rstrip() for at in range(0, len(cells), 3))


def _from_terminal(ceremony: Any) -> Iterable[str]:
    if not has_terminal():
        raise UsageError(
            "shares: no terminal to ask on; give --passphrase-fd N with one share a line, for example 3<FILE"
        )
    while ceremony.missing:
        yield getpass.getpass(f"next share, of {ceremony.missing} to go (33 words, not shown): ")


def _lines(descriptor: int) -> Iterable[str]:
    given = read_descriptor(descriptor, MAX_SHARES_BYTES)
    try:
        return [line for line in given.decode("ascii", "replace").splitlines() if line.strip()]
    finally:
        given[:] = bytes(len(given))
