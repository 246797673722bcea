"""How the vault is opened: its state, another secret or device, new shares."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

import click

from appliance.cli.ceremony import collect_shares, hand_out, obtain_new_secret, obtain_secret, shares_pipe
from appliance.cli.output import emit_facts, emit_json, printable
from appliance.cli.passphrase import as_pipe, obtain, passphrase_fd_option
from appliance.cli.session import Noun, Session, example, json_option, pass_session, without_nulls
from appliance.custody.uri import SHAMIR, canonical, scheme_of, shares_needed
from appliance.errors import UsageError

reason_option = click.option("--reason", help="Why, for the log.")
new_fd_option = click.option(
    "--new-passphrase-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Read the new passphrase, or the new token's PIN, from this open descriptor.",
)
shares_fd_option = click.option(
    "--shares-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Write new shares to this open descriptor, one a line, instead of showing them.",
)
recovery_option = click.option(
    "--recovery", is_flag=True, help="Give the offline recovery identity instead of the secret in force."
)


@click.group("custody", cls=Noun, epilog=example("appliance custody rotate --to shamir:2-of-3"))
def custody_command() -> None:
    """Show and change how the vault is opened."""


@custody_command.command("status", epilog=example("appliance custody status --json"))
@json_option
@pass_session
def custody_status(session: Session, *, as_json: bool) -> None:
    """Show how the vault is opened, and which new shares wait for their proof."""
    status = session.call("CustodyStatus", {})
    if as_json:
        emit_json(status)
        return
    emit_facts(custody_facts(status))
    if status["device"]:
        click.echo(f"warning: {printable(status['device'])}")


def custody_facts(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Phrase a CustodyStatus reply."""
    facts = [
        ("custody", f"{status['uri']} (slot {status['generation']})"),
        ("asks for", status["asks"] or "nothing: a device or file answers"),
        ("recipient", status["recipient"]),
    ]
    if status["shares"]:
        facts.append(("shares", set_text(status["shares"])))
    if status["pending"]:
        waiting = set_text(status["pending_shares"])
        facts.append(("waiting", f"{status['pending']}, {waiting}: `appliance custody reshare --verify`"))
    facts.append(("recovery", status["recovery"] or "none: lose the secret and the vault is lost"))
    return facts


def set_text(share_set: Mapping[str, Any]) -> str:
    """Phrase a set of shares."""
    return f"set {share_set['identifier']}, any {share_set['threshold']} of {share_set['shares']}"


@custody_command.command("rotate", epilog=example("appliance custody rotate --to passphrase:"))
@click.option("--to", "uri", metavar="URI", help="The new custody.  [default: the one in force, made anew]")
@recovery_option
@passphrase_fd_option
@new_fd_option
@shares_fd_option
@reason_option
@pass_session
def rotate(
    session: Session,
    *,
    uri: str | None,
    recovery: bool,
    passphrase_fd: int | None,
    new_passphrase_fd: int | None,
    shares_fd: int | None,
    reason: str | None,
) -> None:
    """Change passphrase, token, TPM seal or the kind of custody; the old one ends once the new one is proved.

    Asks for the secret in force, then for the new one. New shares wait until `custody reshare --verify`.
    """
    change(session, uri, passphrase_fd, new_passphrase_fd, shares_fd, recovery=recovery, reason=reason)


@custody_command.command("reshare", epilog=example("appliance custody reshare --verify"))
@click.option("--to", "uri", metavar="URI", help="Another number of shares, such as shamir:3-of-5.")
@click.option("--verify", is_flag=True, help="Enter every new share once; then the old ones end.")
@recovery_option
@passphrase_fd_option
@shares_fd_option
@reason_option
@pass_session
def reshare(
    session: Session,
    *,
    uri: str | None,
    verify: bool,
    recovery: bool,
    passphrase_fd: int | None,
    shares_fd: int | None,
    reason: str | None,
) -> None:
    """Make new shares; with --verify, prove each of them, and end the old ones.

    Until then the old shares open the vault. Where none wait, --verify rehearses those in force.
    """
    if not verify:
        change(session, uri, passphrase_fd, None, shares_fd, recovery=recovery, reason=reason, shares=True)
        return
    status = session.call("CustodyStatus", {})
    share_set = status["pending_shares"] or status["shares"]
    if share_set is None:
        raise UsageError(
            f"custody {status['uri']} has no shares; `appliance custody rotate --to shamir:2-of-3`"
        )
    entered = collect_shares(share_set, passphrase_fd, wanted=share_set["shares"])
    with as_pipe(entered) as fd:
        reply = session.call("ProveCustody", {"shares_fd": 0, "reason": reason}, [fd])
    if reply["log_index"] is None:
        click.echo(f"proved: every share of {reply['uri']}; nothing changed")
    else:
        show(reply)


def change(
    session: Session,
    uri: str | None,
    passphrase_fd: int | None,
    new_passphrase_fd: int | None,
    shares_fd: int | None,
    *,
    recovery: bool,
    reason: str | None,
    shares: bool = False,
) -> None:
    """Ask for both secrets, have the daemon change custody, hand out shares where there are any."""
    with ExitStack() as held:
        client = held.enter_context(closing(session.connect()))
        status = client.call("CustodyStatus", {})
        wanted = canonical(uri or status["uri"])
        if shares and scheme_of(wanted) != SHAMIR:
            raise UsageError(
                f"reshare: expected shamir: custody, found {wanted}; `appliance custody rotate --to …`"
            )
        parameters: dict[str, object] = {"uri": wanted, "reason": reason, "recovery": recovery or None}
        fds: list[int] = []
        old = obtain(passphrase_fd, "recovery identity") if recovery else obtain_secret(status, passphrase_fd)
        for name, secret in (
            ("secret_fd", old),
            ("new_secret_fd", obtain_new_secret(wanted, new_passphrase_fd)),
        ):
            if secret is not None:
                parameters[name] = len(fds)
                fds.append(held.enter_context(as_pipe(secret)))
        if scheme_of(wanted) != SHAMIR:
            show(client.call("RotateCustody", without_nulls(parameters), fds))
            return
        write_end, receive = held.enter_context(shares_pipe())
        parameters["shares_fd"] = len(fds)
        reply = client.call("RotateCustody", without_nulls(parameters), [*fds, write_end])
        made = receive()
        hand_out(made, shares_needed(wanted), shares_fd)
        show(reply)


def show(reply: Mapping[str, Any]) -> None:
    """Say what is in force now, and what is left to do."""
    if reply["staged"]:
        click.echo(
            f"new shares of {reply['uri']} wait (log entry {reply['log_index']}); the old custody is in "
            "force until\neach was entered once: `appliance custody reshare --verify`"
        )
    else:
        click.echo(
            f"custody {reply['uri']} is in force (log entry {reply['log_index']}); the old one is gone"
        )
    if reply["left"]:
        click.echo(f"warning: {printable(reply['left'])}", err=True)
