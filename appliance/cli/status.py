"""The state of the appliance on one screen, and the version of this program."""

from __future__ import annotations

import platform
from typing import Any

import click

from appliance import __version__
from appliance.cli.account import share_text
from appliance.cli.output import emit_facts, emit_json, printable, size_text
from appliance.cli.progress import duration_text
from appliance.cli.session import Session, Verb, example, json_option, pass_session

DISTRIBUTION = "training-appliance"


@click.command("status", cls=Verb, epilog=example("appliance status --json"))
@json_option
@pass_session
def status_command(session: Session, *, as_json: bool) -> None:
    """Show what the appliance is and does, on one screen."""
    status = session.call("Status", {})
    if as_json:
        emit_json(status)
        return
    emit_facts(status_facts(status), tones_of(status))
    for warning in status["warnings"]:
        click.echo(f"warning: {printable(warning)}")


def status_facts(status: dict[str, Any]) -> list[tuple[str, str]]:
    """Phrase a Status reply, most urgent fact first."""
    running = status["jobs_running"]
    return [
        ("appliance", f"{status['origin']} (version {status['version']}, pid {status['pid']})"),
        ("vault", f"{'sealed' if status['sealed'] else 'unsealed'}, custody {status['custody']}"),
        ("recovery", status["recovery"] or "none: lose the unseal secret and the vault is lost"),
        ("profile", f"{status['profile']}, host {'isolated' if status['isolated'] else 'NOT isolated'}"),
        ("log", f"{status['log_size']} entries, {_log_state(status)}, custody {status['log_custody']}"),
        ("witnesses", witness_text(status)),
        ("objects", str(status["objects"])),
        ("jobs", ", ".join(running) if running else "none running"),
        *(("", f"{each['job']}: {share_text(each)} of peak") for each in status["accounts"]),
        ("left", _egress_text(status["egress"])),
        ("disk", _disk_text(status["disk"])),
        *(
            ("refused" if number == 0 else "", _refusal(each))
            for number, each in enumerate(status["refusals"])
        ),
    ]


def tones_of(status: dict[str, Any]) -> dict[str, str]:
    """Choose colours for what an operator must not overlook; the words say the same."""
    return {
        "vault": "yellow" if status["sealed"] else "green",
        "profile": "green" if status["isolated"] else "bold red",
        "log": "green" if status["log_alive"] else "bold red",
        "disk": "bold red" if _is_short(status["disk"]) else "",
        "refused": "yellow",
    }


def _is_short(disk: dict[str, Any]) -> bool:
    return bool(disk["free_bytes"] * 10 < disk["total_bytes"])


def _disk_text(disk: dict[str, Any]) -> str:
    """Phrase how much room is left; less than a tenth is said loudly."""
    text = f"{size_text(disk['free_bytes'])} of {size_text(disk['total_bytes'])} free"
    return f"{text}: SHORT, when it is full nothing is read" if _is_short(disk) else text


def _refusal(each: dict[str, Any]) -> str:
    who = each["principal"].partition(":")[2]
    why = ", ".join(each["reasons"]) or "no rule permits it"
    when = each["time"][:19].replace("T", " ")
    return f"{when} {who} {each['action']} {each['resource']}: {why} (entry {each['index']})"


def _egress_text(budgets: list[dict[str, Any]]) -> str:
    """Phrase what left in the period and what may, by content."""
    if not budgets:
        return "not known: the log is damaged, so nothing may"
    told = [
        f"{each['content']} {size_text(each['bytes'])} of {size_text(each['limit_bytes'])}"
        f" ({each['count']} of {each['limit_count']})"
        for each in budgets
    ]
    return f"{', '.join(told)}, in {budgets[0]['days']} days"


def witness_text(status: dict[str, Any]) -> str:
    """Phrase how far the log is witnessed, from a Status or AuditStatus reply."""
    count = status["witnesses"]
    if not count:
        return "none enrolled"
    age = duration_text(float(status["unwitnessed_age_s"]))
    return f"{count} enrolled, {status['unwitnessed_entries']} entries unwitnessed for {age}"


def _log_state(status: dict[str, Any]) -> str:
    return "writable" if status["log_alive"] else "NOT WRITABLE: nothing is read until it is"


@click.command("version", cls=Verb, epilog=example("appliance version --json"))
@json_option
def version_command(*, as_json: bool) -> None:
    """Print the version of this program and of the Python that runs it."""
    if as_json:
        emit_json({"version": __version__, "python": platform.python_version()})
    else:
        click.echo(f"{DISTRIBUTION} {__version__}, Python {platform.python_version()}")
