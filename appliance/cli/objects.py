"""What lies sealed in the vault: a list, one object, its lineage, and whether everything is whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from appliance.cli.output import emit_facts, emit_json, emit_table, printable, size_text
from appliance.cli.session import Noun, Session, example, json_option, pass_session
from appliance.errors import IntegrityError, UnknownObject, UsageError

KINDS = ("weights", "config", "corpus", "tokenizer", "optimizer", "report")
SHORT_ID = 16  # enough to tell objects apart on a screen; --json has all of it
LEAST_ID = 8
EVERY_S = 1.0

kind_option = click.option("--kind", type=click.Choice(KINDS), help="Only objects of this kind.")
Rows = Mapping[str, Mapping[str, Any]]


@click.group(
    "objects", cls=Noun, invoke_without_command=True, epilog=example("appliance objects --kind weights")
)
@kind_option
@json_option
@click.pass_context
def objects_command(context: click.Context, *, kind: str | None, as_json: bool) -> None:
    """List the sealed objects (`appliance objects` is `appliance objects list`)."""
    if context.invoked_subcommand is None:
        show_objects(context.ensure_object(Session), kind, as_json=as_json)


@objects_command.command("list", epilog=example("appliance objects list --json"))
@kind_option
@json_option
@pass_session
def list_command(session: Session, *, kind: str | None, as_json: bool) -> None:
    """List the sealed objects."""
    show_objects(session, kind, as_json=as_json)


def show_objects(session: Session, kind: str | None, *, as_json: bool) -> None:
    """Print the catalog's objects, one per line or as one JSON array."""
    objects = [item["object"] for item in session.stream("ListObjects", {"kind": kind})]
    if as_json:
        emit_json(objects)
    elif not objects:
        click.echo("no objects yet; `appliance import BUNDLE` brings some in")
    else:
        emit_table(
            ("KIND", "NAME", "VERSION", "SIZE", "ENTRY", "CREATED", "ID"),
            (
                (
                    item["kind"],
                    item["name"],
                    str(item["version"]),
                    size_text(item["size_bytes"]) if item["state"] == "ready" else item["state"],
                    str(item["log_index"]),
                    item["created"],
                    item["id"][:SHORT_ID],
                )
                for item in objects
            ),
        )


@objects_command.command("show", epilog=example("appliance objects show weights/first-run"))
@click.argument("object_name", metavar="OBJECT")
@json_option
@pass_session
def show_command(session: Session, *, object_name: str, as_json: bool) -> None:
    """Show one OBJECT: KIND/NAME for the newest version, KIND/NAME@VERSION, or the first digits of its id."""
    rows = _rows(session)
    row = find_object(rows, object_name)
    made_into = [each["id"] for each in rows.values() if row["id"] in each["parents"]]
    if as_json:
        emit_json({**row, "children": made_into})
        return
    facts = [
        ("object", f"{row['kind']}/{row['name']}@{row['version']}"),
        ("id", row["id"]),
        ("state", row["state"]),
        ("size", f"{size_text(row['size_bytes'])} ({row['size_bytes']:,} bytes)"),
        ("compartments", ", ".join(row["compartments"]) or "none"),
        ("created", f"{row['created']}, log entry {row['log_index']}"),
        ("job", row["job"] or "none"),
        ("payload", f"SHA-256 {row['sha256']}"),
        *(("made of", _line(rows, each)) for each in row["parents"]),
        *(("made into", _line(rows, each)) for each in made_into),
    ]
    emit_facts(facts)


@objects_command.command("lineage", epilog=example("appliance objects lineage weights/first-run"))
@click.argument("object_name", metavar="OBJECT")
@json_option
@pass_session
def lineage_command(session: Session, *, object_name: str, as_json: bool) -> None:
    """Show all that an OBJECT was made of, and all that was made of it."""
    rows = _rows(session)
    row = find_object(rows, object_name)
    parents = {each["id"]: tuple(each["parents"]) for each in rows.values()}
    children: dict[str, tuple[str, ...]] = {}
    for name, above in parents.items():
        for parent in above:
            children[parent] = (*children.get(parent, ()), name)
    if as_json:
        made = {"ancestors": _below(row["id"], parents), "descendants": _below(row["id"], children)}
        emit_json({"object": row, **{what: [rows[each] for each in ids] for what, ids in made.items()}})
        return
    click.echo(printable(_line(rows, row["id"])))
    for title, edges in (("made of", parents), ("made into", children)):
        lines = list(_tree(rows, row["id"], edges, 1, {row["id"]}))
        click.echo(f"{title}{'' if lines else ' nothing'}")
        for line in lines:
            click.echo(printable(line))


@objects_command.command("verify", epilog=example("appliance objects verify"))
@click.argument("object_name", metavar="[OBJECT]", default="")
@json_option
@pass_session
def verify_command(session: Session, *, object_name: str, as_json: bool) -> None:
    """Read every payload, or one OBJECT's, and compare it with the log entry that created it.

    Also names missing headers and payloads, headers that do not open, and folders that are no objects.
    """
    wanted = find_object(_rows(session), object_name)["id"] if object_name else ""
    last: dict[str, Any] = {}
    findings: list[dict[str, str]] = []
    told = time.monotonic()
    for last in session.stream("VerifyObjects", {"object": wanted}):
        if last["finding"]:
            findings.append({"about": last["about"], "finding": last["finding"]})
            if not as_json:
                click.echo(printable(f"{last['about']}: {last['finding']}"))
        elif not as_json and time.monotonic() - told > EVERY_S:
            told = time.monotonic()
            sizes = f"{size_text(last['done_bytes'])} of {size_text(last['total_bytes'])}"
            click.echo(f"    {last['objects']:,} objects, {sizes}", err=True)
    count, size = (last["objects"], last["done_bytes"]) if last else (0, 0)
    if as_json:
        emit_json({"objects": count, "bytes": size, "findings": findings})
    if findings:
        raise IntegrityError(f"{len(findings)} findings in {count} objects: restore what is damaged")
    if not as_json:
        click.echo(f"verified: {count:,} objects, {size_text(size)}; each is what its log entry says")


def find_object(rows: Rows, text: str) -> Mapping[str, Any]:
    """Return the row that a person means; raises UsageError, UnknownObject."""
    kind, slash, rest = text.partition("/")
    if slash:
        name, at, version = rest.partition("@")
        named = [each for each in rows.values() if (each["kind"], each["name"]) == (kind, name)]
        wanted = [each for each in named if str(each["version"]) == version] if at else named
        wanted = sorted(wanted, key=lambda each: (each["state"] != "shredded", each["version"]))[-1:]
    elif len(text) < LEAST_ID:
        raise UsageError(f"expected KIND/NAME, or {LEAST_ID} digits of an id, found {text[:80]!r}")
    else:
        wanted = [each for name, each in rows.items() if name.startswith(text)]
    if len(wanted) != 1:
        found = "none" if not wanted else f"{len(wanted)}, so give more digits"
        raise UnknownObject(f"object {text[:80]}: expected one, found {found}; see `appliance objects`")
    return wanted[0]


def _rows(session: Session) -> dict[str, Mapping[str, Any]]:
    return {item["object"]["id"]: item["object"] for item in session.stream("ListObjects", {})}


def _line(rows: Rows, name: str) -> str:
    row = rows[name]
    state = "" if row["state"] == "ready" else f", {row['state']}"
    what = f"{row['kind']}/{row['name']}@{row['version']}"
    return f"{what}  {name[:SHORT_ID]}  entry {row['log_index']}{state}"


def _below(start: str, edges: Mapping[str, tuple[str, ...]]) -> list[str]:
    found: list[str] = []
    waiting = list(edges.get(start, ()))
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found.append(name)
            waiting += edges.get(name, ())
    return found


def _tree(
    rows: Rows, name: str, edges: Mapping[str, tuple[str, ...]], depth: int, seen: set[str]
) -> Iterator[str]:
    """Yield a line for each object below one; what was shown before is not taken apart again."""
    for each in edges.get(name, ()):
        again = each in seen
        seen.add(each)
        yield f"{'  ' * depth}{_line(rows, each)}{' (see above)' if again and edges.get(each) else ''}"
        if not again:
            yield from _tree(rows, each, edges, depth + 1, seen)
