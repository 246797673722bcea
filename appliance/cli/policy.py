"""The rules as people work with them: check, test, explain and compare a set before it counts, then load it.

Everything but `load`, `who-can` and `status` works on files alone, without a daemon. A set is named by its
folder, by its .cedar files, or as one of those that ship: `default`, `strict`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from appliance.cli.files import read_text, request_id
from appliance.cli.output import emit_facts, emit_json, emit_table, printable
from appliance.cli.session import Noun, Session, example, json_option, pass_session
from appliance.errors import MediumMissing, PolicyRefused, UsageError
from policy.cases import Case, demand_promises, parse_cases
from policy.engine import SHIPPED, Engine, schema, shipped
from policy.errors import PolicyInvalid
from policy.explain import Explanation, explain
from policy.replay import Logged, replay
from policy.rules import MAX_FILE_BYTES, SCHEMA_NAME, formatted

SET = click.argument("rule_set", nargs=-1, metavar="[SET]...")


@click.group("policy", cls=Noun, epilog=example("appliance policy test cases.toml my-rules/"))
def policy_command() -> None:
    """Check, test, compare and load the rules that decide."""


@policy_command.command("check", epilog=example("appliance policy check my-rules/"))
@SET
@json_option
def check_command(*, rule_set: tuple[str, ...], as_json: bool) -> None:
    """Parse and validate a SET and hold it to what every set must answer; print its digest."""
    engine = engine_of(rule_set)
    demand_promises(engine)
    told = {"policy_set": engine.digest, "rules": list(engine.names)}
    if as_json:
        emit_json(told)
    else:
        emit_facts([("policy set", engine.digest), ("rules", str(len(engine.names)))])


@policy_command.command("fmt", epilog=example("appliance policy fmt --write lab.cedar"))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--write", is_flag=True, help="Change the files instead of printing them.")
def fmt_command(*, files: tuple[Path, ...], write: bool) -> None:
    """Print rule files in Cedar's own layout."""
    for path in files:
        before = _rule_text(path)
        after = formatted(path.name, before)
        if not write:
            click.echo(printable(after), nl=False)
        elif after != before:
            path.write_text(after, "utf-8")
            click.echo(printable(f"formatted {path}"))


@policy_command.command("test", epilog=example("appliance policy test cases.toml my-rules/"))
@click.argument("table", type=click.Path(path_type=Path))
@SET
@json_option
def test_command(*, table: Path, rule_set: tuple[str, ...], as_json: bool) -> None:
    """Ask a SET every question of a TABLE and compare the answers with what it expects."""
    engine = engine_of(rule_set)
    cases = parse_cases(read_text(table, "table"), str(table))
    wrong = [told for case in cases if (told := case.differs(engine.decide(case.request)))]
    if as_json:
        emit_json({"cases": len(cases), "wrong": wrong, "policy_set": engine.digest})
    else:
        for told in wrong:
            click.echo(printable(told))
        click.echo(f"{len(cases) - len(wrong)} of {len(cases)} cases answered as expected")
    if wrong:
        raise PolicyRefused(f"{len(wrong)} of {len(cases)} cases of {table} were answered otherwise")


@policy_command.command("explain", epilog=example("appliance policy explain question.toml"))
@click.argument("table", type=click.Path(path_type=Path))
@SET
@json_option
def explain_command(*, table: Path, rule_set: tuple[str, ...], as_json: bool) -> None:
    """Say of each question in a TABLE which rule decides, which would have, and what would allow it."""
    engine = engine_of(rule_set)
    cases = parse_cases(read_text(table, "table"), str(table), expectations=False)
    found = [(case, explain(engine, case.request)) for case in cases]
    if as_json:
        emit_json([_explained(case, each) for case, each in found])
        return
    for case, each in found:
        _show(case, each)


@policy_command.command("diff", epilog=example("appliance policy diff default my-rules/"))
@click.argument("old")
@click.argument("new")
@json_option
def diff_command(*, old: str, new: str, as_json: bool) -> None:
    """Compare two sets rule by rule; loads neither."""
    before, after = rules_of((old,)), rules_of((new,))
    Engine(before, schema()), Engine(after, schema())
    told: dict[str, list[str]] = {}
    for name in sorted({*before, *after}):
        lines = difflib.unified_diff(
            before.get(name, "").splitlines(),
            after.get(name, "").splitlines(),
            f"{old}/{name}",
            f"{new}/{name}",
            "",
            "",
            2,
            "",
        )
        told[name] = list(lines)
    if as_json:
        emit_json(told)
        return
    for line in (each for listed in told.values() for each in listed):
        click.echo(printable(line))


@policy_command.command("simulate", epilog=example("appliance policy simulate my-rules/"))
@SET
@json_option
@pass_session
def simulate_command(session: Session, *, rule_set: tuple[str, ...], as_json: bool) -> None:
    """Judge every decision of this home's log again by a SET and print those that turn; no daemon needed."""
    found = replay(engine_of(rule_set), logged_decisions(session.home))
    if as_json:
        flips = [
            {
                "log_index": each.logged.index,
                "action": each.logged.action,
                "allow": each.allow,
                "told": list(each.told),
            }
            for each in found.flips
        ]
        emit_json({"judged": found.judged, "skipped": found.skipped, "flips": flips})
        return
    rows = [
        (
            str(each.logged.index),
            each.logged.principal,
            each.logged.action,
            each.logged.resource[:40],
            "deny -> allow" if each.allow else "allow -> deny",
            ", ".join(each.told),
        )
        for each in found.flips
    ]
    if rows:
        emit_table(("entry", "who", "action", "on", "turns", "by"), rows)
    click.echo(f"{len(rows)} of {found.judged} decisions turn; {found.skipped} were not judged by rules")


@policy_command.command("who-can", epilog=example("appliance policy who-can read first-run"))
@click.argument("action")
@click.argument("object_name", metavar="OBJECT", default="")
@json_option
@pass_session
def who_can_command(session: Session, *, action: str, object_name: str, as_json: bool) -> None:
    """List who may do ACTION to OBJECT (a model, KIND/NAME, or nothing for the appliance) as things are."""
    people = session.call("WhoCan", {"action": action, "object": object_name})["people"]
    if as_json:
        emit_json(people)
        return
    rows = [(each["person"], _verdict(each), ", ".join(each["reasons"] or each["rules"])) for each in people]
    emit_table(("person", "may", "by"), rows)


@policy_command.command("load", epilog=example("appliance policy load my-rules/ --request policy.request"))
@SET
@click.option("--previous", is_flag=True, help="Go back to the set that was in force before.")
@click.option("--request", "request_file", required=True, help="The approved request, or its id.")
@json_option
@pass_session
def load_command(
    session: Session, *, rule_set: tuple[str, ...], previous: bool, request_file: str, as_json: bool
) -> None:
    """Put a SET in force, once officers have approved its digest, which `appliance policy check` prints.

    Ask them with `appliance request configure policy policy_set=DIGEST --reason TEXT --out FILE`.
    """
    rules = {} if previous else dict(rules_of(rule_set))
    told = session.call(
        "LoadPolicy", {"rules": rules, "previous": previous or None, "request": request_id(request_file)}
    )
    if as_json:
        emit_json(told)
    else:
        click.echo(
            f"in force: {told['policy_set']} (log entry {told['log_index']}), before: {told['previous']}"
        )


@policy_command.command("status", epilog=example("appliance policy status"))
@json_option
@pass_session
def status_command(session: Session, *, as_json: bool) -> None:
    """Say which set is in force and which was before."""
    told = session.call("PolicyStatus", {})
    if as_json:
        emit_json(told)
    else:
        emit_facts(
            [
                ("in force", told["policy_set"]),
                ("before", told["previous"] or "-"),
                ("rules", str(len(told["rules"]))),
            ]
        )


def engine_of(rule_set: Sequence[str]) -> Engine:
    """Return the checked engine of a named set, `default` where none is named."""
    return Engine(rules_of(rule_set), schema())


def rules_of(rule_set: Sequence[str]) -> Mapping[str, str]:
    """Read the files of a set; raises MediumMissing, UsageError, or PolicyInvalid for another schema."""
    given = rule_set or ("default",)
    if len(given) == 1 and given[0] in SHIPPED and not Path(given[0]).exists():
        return shipped(given[0])[0]
    rules: dict[str, str] = {}
    for path in _files(Path(each) for each in given):
        if path.name in rules:
            raise UsageError(f"expected each rule file once, found {path.name} twice")
        rules[path.name] = _rule_text(path)
    return rules


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(path.glob("*.cedar"))
        if not found:
            raise MediumMissing(f"policy: expected .cedar files in {path}, found none")
        own = path / SCHEMA_NAME
        if own.exists() and _rule_text(own) != schema():
            raise PolicyInvalid(
                f"{own}: expected the schema that ships with this release, found another; "
                "rules are written for what the gate states: remove the file. Nothing was loaded"
            )
        yield from found


def _rule_text(path: Path) -> str:
    try:
        with path.open("rb") as source:
            data = source.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise MediumMissing(f"policy: no file {path}; sets that ship: {', '.join(SHIPPED)}") from missing
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as broken:
        raise PolicyInvalid(
            f"{path}: expected UTF-8 text, found byte {data[broken.start]:#x}; nothing was loaded"
        ) from broken


def logged_decisions(home: Path) -> list[Logged]:
    """Verify the log of a home and return its decisions; raises what an auditor's check raises."""
    # Late: reading a log loads PyNaCl, which no other verb here needs.
    from appliance.decisions import decisions  # noqa: PLC0415

    return decisions(home)


def _verdict(told: Mapping[str, Any]) -> str:
    if told["allowed"]:
        return "yes"
    return f"with {told['approvals']} approvals" if told["approvals"] else "no"


def _explained(case: Case, found: Explanation) -> dict[str, Any]:
    return {
        "name": case.name,
        "allow": found.decision.allow,
        "policies": list(found.decision.policies),
        "reasons": list(found.decision.reasons),
        "policy_set": found.decision.policy_set,
        "permits": list(found.permits),
        "forbids": list(found.forbids),
        "considered": list(found.considered),
        "approvals": found.approvals,
        "next": list(found.next_steps),
    }


def _show(case: Case, found: Explanation) -> None:
    facts = [
        ("question", case.name),
        ("answer", "allow" if found.decision.allow else "deny"),
        ("decided by", ", ".join(found.decision.policies) or "-"),
        ("reasons", ", ".join(found.decision.reasons) or "-"),
        ("would permit", ", ".join(found.permits) or "-"),
        ("would forbid", ", ".join(found.forbids) or "-"),
        ("did not apply", ", ".join(found.considered) or "-"),
    ]
    emit_facts([*facts, *(("next", step) for step in found.next_steps)])
