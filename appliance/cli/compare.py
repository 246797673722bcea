"""Two jobs side by side: what each was made of, how far each came, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import click

from appliance.cli.account import scaled, share_text
from appliance.cli.output import emit_json, emit_table
from appliance.cli.progress import duration_text
from appliance.cli.session import Session, Verb, example, json_option, pass_session
from appliance.errors import PolicyRefused, SealedError, UnknownObject

NONE = "-"
Account: TypeAlias = Mapping[str, Any]
Row: TypeAlias = tuple[str, str, str, str]


@click.command("compare", cls=Verb, epilog=example("appliance compare train-7f3a9c51e2d0 train-0b6d2f11aa94"))
@click.argument("first")
@click.argument("second")
@json_option
@pass_session
def compare_command(session: Session, *, first: str, second: str, as_json: bool) -> None:
    """Show two jobs side by side: FIRST and SECOND, and how far apart their figures are."""
    jobs = {item["job"]["id"]: item["job"] for item in session.stream("ListJobs", {})}
    objects = {item["object"]["id"]: item["object"] for item in session.stream("ListObjects", {})}
    sides = [_side(session, jobs, objects, name) for name in (first, second)]
    if as_json:
        emit_json(sides)
    else:
        emit_table(("", first, second, "DIFFERENCE"), rows_of(*sides))


def _side(session: Session, jobs: Mapping[str, Any], objects: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in jobs:
        raise UnknownObject(f"job {name[:80]}: expected it among the jobs, found none; see `appliance jobs`")
    job = jobs[name]
    wanted = {"job": name, "after": 0, "follow": False}
    events = [item["event"] for item in session.stream("Watch", wanted)]
    bits = {event["step"]: event["bits_per_byte"] for event in events if event["bits_per_byte"] is not None}
    try:
        account = session.call("ShowAccount", {"job": name})["account"]
    except (PolicyRefused, SealedError, UnknownObject):
        account = None  # kept back, or not sealed yet: the rest can be compared all the same
    made = [objects[each] for each in job["results"] if each in objects]
    inputs = sorted(
        {up for row in made for up in row["parents"] if up in objects} | {job["config"]} & set(objects)
    )
    return {
        "job": name,
        "name": job["name"],
        "state": job["state"],
        "step": job["step"],
        "steps": job["steps"],
        "inputs": [_named(objects[each]) for each in inputs],
        "bits_per_byte": {str(step): figure for step, figure in sorted(bits.items())},
        "account": account,
    }


def rows_of(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[Row]:
    """Phrase two sides line by line; the last column is the second less the first."""
    rows: list[Row] = [
        (what, str(one[what]), str(two[what]), "" if one[what] == two[what] else "differs")
        for what in ("name", "state", "step", "steps")
    ]
    for number in range(max(len(one["inputs"]), len(two["inputs"]))):
        left, right = (_at(each["inputs"], number) for each in (one, two))
        rows.append(("made of" if number == 0 else "", left, right, "" if left == right else "differs"))
    rows += _figures(one["bits_per_byte"], two["bits_per_byte"])
    rows += _costs(one["account"], two["account"])
    return rows


def _figures(one: Mapping[str, float], two: Mapping[str, float]) -> list[Row]:
    """Compare held-out figures: the best, and the newest at a step that both were measured at."""
    best = [min(each.values(), default=None) for each in (one, two)]
    rows = [_line("best held out", best, "{:.4f}")]
    if shared := sorted(one.keys() & two.keys(), key=int):
        step = shared[-1]
        rows.append(_line(f"at step {step}", [one[step], two[step]], "{:.4f}"))
    return rows


def _costs(one: Mapping[str, Any] | None, two: Mapping[str, Any] | None) -> list[Row]:
    def pair(name: str) -> list[float | None]:
        return [None if each is None else each[name] for each in (one, two)]

    both = (one, two)
    return [
        _line("tokens", pair("tokens"), "{:,.0f}"),
        _told("operations", both, lambda each: f"{scaled(each['flops'])}FLOP"),
        _told("time", both, lambda each: duration_text(each["seconds"])),
        _told("of peak", both, lambda each: share_text(dict(each))),
    ]


def _told(what: str, accounts: Sequence[Account | None], say: Callable[[Account], str]) -> Row:
    left, right = (NONE if each is None else say(each) for each in accounts)
    return what, left, right, ""


def _line(what: str, pair: Sequence[float | None], form: str) -> Row:
    one, two = pair
    left, right = (NONE if each is None else form.format(each) for each in pair)
    apart = "" if one is None or two is None else form.replace("{:", "{:+").format(two - one)
    return what, left, right, apart


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['kind']}/{row['name']}@{row['version']}"


def _at(names: Sequence[str], number: int) -> str:
    return names[number] if number < len(names) else NONE
