"""Looking after the audit log: what its keeper does so that others need not trust them."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli.files import read_small, request_id, write_new
from appliance.cli.output import emit_facts, emit_json, emit_table, printable
from appliance.cli.progress import duration_text
from appliance.cli.session import Noun, Session, example, json_option, pass_session
from appliance.errors import ContentRefused


@click.group("audit", cls=Noun, epilog=example("appliance audit challenge --out /media/stick/challenge"))
def audit_command() -> None:
    """Look after the audit log; `python -m audit` is the auditor's own program."""


@audit_command.command("rotate-key", epilog=example("appliance audit rotate-key --reason 'yearly rotation'"))
@click.option("--reason", required=True, help="Why, for the log.")
@pass_session
def rotate_key_command(session: Session, *, reason: str) -> None:
    """Let a new key sign the log from now on.

    The old key names it in an entry, signs once more, and is destroyed. Auditors go on with the first public
    key that they were given: the log leads from it to the newest.
    """
    reply = session.call("RotateLogKey", {"reason": reason})
    click.echo(
        printable(
            f"epoch {reply['epoch']} of the log's key begins after entry {reply['log_index']}\n"
            f"{reply['vkey']}\n"
            "next: back up the home folder; a backup from before can no longer sign this log"
        )
    )


@audit_command.command("challenge", epilog=example("appliance audit challenge --out /media/stick/challenge"))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write, on a stick."
)
@click.option(
    "--from", "old", type=click.IntRange(min=0), help="Size that the witness last saw, as its refusal says."
)
@click.option("--witness", metavar="NAME", help="Whom to ask, where several are enrolled.")
@click.option(
    "--again", is_flag=True, help="The head of the last challenge, for another witness to cosign too."
)
@json_option
@pass_session
def challenge_command(
    session: Session, *, out: Path, old: int | None, witness: str | None, again: bool, as_json: bool
) -> None:
    """Write what a witness is to check: the newest tree head, and proof that the log only grew."""
    reply = session.call("Challenge", {"old": old, "witness": witness, "again": again or None})
    write_new(out, reply["body"].encode("utf-8"))
    if as_json:
        emit_json({"file": str(out), "old": reply["old"], "size": reply["size"]})
        return
    click.echo(printable(f"challenge: {out}, from {reply['old']} to {reply['size']} entries"))
    click.echo(
        "witness:   python -m audit witness --state DIR --key KEY --log-key log.vkey --out ANSWER CHALLENGE"
    )
    click.echo("then:      appliance audit accept ANSWER")


@audit_command.command("accept", epilog=example("appliance audit accept /media/stick/answer"))
@click.argument("answer", type=click.Path(path_type=Path))
@json_option
@pass_session
def accept_command(session: Session, *, answer: Path, as_json: bool) -> None:
    """Take a witness's ANSWER to a challenge: checked, logged, and kept beside the log's own head."""
    try:
        text = read_small(answer, "answer").decode("utf-8")
    except UnicodeDecodeError as broken:
        raise ContentRefused(f"answer: {answer} is not UTF-8 text; is it the right file?") from broken
    reply = session.call("Accept", {"answer": text})
    if as_json:
        emit_json(reply)
        return
    names = ", ".join(reply["names"])
    missing = f"; {reply['missing']} more must cosign it" if reply["missing"] else ": it is witnessed"
    click.echo(printable(f"the head of {reply['size']} entries is cosigned by {names}{missing}"))


@audit_command.command("status", epilog=example("appliance audit status"))
@json_option
@pass_session
def status_command(session: Session, *, as_json: bool) -> None:
    """Show who witnessed the log, how far and how long ago."""
    reply = session.call("AuditStatus", {})
    if as_json:
        emit_json(reply)
        return
    age = duration_text(float(reply["unwitnessed_age_s"]))
    facts = [
        ("log", f"{reply['log_size']} entries"),
        ("witnessed", f"the first {reply['witnessed_size']}; {reply['unwitnessed_entries']} entries are not"),
    ]
    if reply["witnesses"]:
        facts += [
            ("age", f"{age} since the newest witnessed head, or since the log began"),
            ("quorum", f"{reply['quorum']} of {len(reply['witnesses'])} witnesses"),
        ]
    else:
        facts.append(("quorum", "no witness is enrolled, so no limit applies"))
    if reply["break_glass"]:
        facts.append(("glass", "BROKEN: the next job starts whatever the limits say"))
    emit_facts(facts)
    if reply["witnesses"]:
        rows = [(each["name"], str(each["size"]), each["time"] or "never") for each in reply["witnesses"]]
        emit_table(("WITNESS", "COSIGNED", "AT"), rows)


@audit_command.command("break-glass", epilog=example("appliance audit break-glass --request glass.request"))
@click.option("--request", required=True, metavar="FILE_OR_ID", help="The request that officers approved.")
@pass_session
def break_glass_command(session: Session, *, request: str) -> None:
    """Let the next job start although the log is long unwitnessed; `appliance request break-glass` asks.

    It serves one job, whichever starts next, and is gone when the daemon ends. The log names who and why.
    """
    session.call("BreakGlass", {"request": request_id(request)})
    click.echo("the next job may start; have the log witnessed: appliance audit challenge")


@audit_command.command("salt", epilog=example("appliance audit salt 42 --out entry-42.salt"))
@click.argument("index", type=click.IntRange(min=0))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write the salt to."
)
@pass_session
def salt_command(session: Session, *, index: int, out: Path) -> None:
    """Write the salt of entry INDEX, with which an auditor opens what that entry keeps back."""
    reply = session.call("Salt", {"index": index})
    write_new(out, f"{reply['salt']}\n".encode("ascii"), mode=0o600)
    click.echo(f"salt of entry {index}: {out}")
    click.echo(f"auditor: python -m audit open LOGDIR --vkey log.vkey {index} --salt {out.name} NAME=VALUE")
