"""The commands by which a person reads a log: show, prove, open, account, report.

Guarantees that whatever `prove`, `open`, `account` and `report` say rests on entries that the log's key
signed; `show` lists what lies in the folder and says nothing more.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audit.account import Account
from audit.entry import Entry, entry_salt, format_time
from audit.errors import Invalid, Malformed
from audit.filter import Filter, parse_moment
from audit.folder import Folder
from audit.given import read_given, read_key, read_secret, write_new
from audit.listing import MAX_LISTING_BYTES, Listed, parse_listing
from audit.opening import commitments, verify_claims
from audit.prove import prove
from audit.report import Sources, page
from audit.show import show_line, show_text, unverified_entries
from audit.summary import Summary
from audit.verify import verify_log


def add_commands(commands: Any) -> None:
    """Add the parsers of this module's commands to the program's."""
    _add_show(commands)
    _add_prove(commands)
    _add_open(commands)
    _add_account(commands)
    _add_report(commands)


def index(text: str) -> int:
    """Read an entry's number off the command line."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected an entry's number, found {text!r}")
    return int(text)


def _moment(text: str) -> str:
    try:
        return parse_moment(text)
    except Malformed as failure:
        raise argparse.ArgumentTypeError(str(failure)) from failure


def _add_show(commands: Any) -> None:
    show = commands.add_parser("show", help="list entries, without verifying them")
    show.set_defaults(run=_show)
    show.add_argument("directory", type=Path, metavar="LOGDIR")
    show.add_argument("--start", type=index, default=0, metavar="N", help="first entry to list")
    show.add_argument("--principal", default="", metavar="WHO", help="such as Person:alice, or alice")
    show.add_argument(
        "--object", default="", metavar="WHAT", help="an id (8 digits are enough), or kind/name"
    )
    show.add_argument("--action", default="", help="such as use, export, unseal")
    show.add_argument("--kind", default="", help="such as decision, object-created, sealed")
    show.add_argument("--since", type=_moment, metavar="TIME", help="UTC: 2026-01-02T03:04")
    show.add_argument("--until", type=_moment, metavar="TIME", help="all of a day or minute counts")
    outcome = show.add_mutually_exclusive_group()
    outcome.add_argument("--allowed", dest="allowed", action="store_const", const=True, help="only what was")
    outcome.add_argument("--denied", dest="allowed", action="store_const", const=False, help="only refusals")
    show.add_argument("--json", action="store_true", help="print the entries as written, one a line")


def _show(options: argparse.Namespace) -> int:
    wanted = Filter(
        principal=options.principal,
        object=options.object,
        action=options.action,
        kind=options.kind,
        since=options.since or "",
        until=options.until or "",
        allowed=options.allowed,
    )
    with Folder(options.directory) as folder:
        for data, entry in unverified_entries(folder, options.start):
            if wanted.matches(entry):
                print(data.decode("ascii") if options.json else show_line(entry))
    return 0


def _add_prove(commands: Any) -> None:
    command = commands.add_parser("prove", help="make the receipt of an entry from the folder alone")
    command.set_defaults(run=_prove)
    _add_log(command)
    command.add_argument("index", type=index, metavar="INDEX")
    command.add_argument(
        "--out", required=True, metavar="NAME", help="writes NAME.tlog-proof and, beside it, NAME.entry"
    )


def _prove(options: argparse.Namespace) -> int:
    key = read_key(options.vkey)
    with Folder(options.directory) as folder:
        receipt, data, entry = prove(folder, options.index, key)
    proof, beside = f"{options.out}.tlog-proof", f"{options.out}.entry"
    write_new(Path(beside), data)
    write_new(Path(proof), receipt)
    if options.json:
        print(json.dumps({"ok": True, "index": entry.seq, "proof": proof, "entry": beside}))
    else:
        print(show_line(entry))
        print(f"{proof}, {beside}")
    return 0


def _add_open(commands: Any) -> None:
    command = commands.add_parser("open", help="check claimed values against the commitments of an entry")
    command.set_defaults(run=_open)
    _add_log(command)
    command.add_argument("index", type=index, metavar="INDEX")
    secret = command.add_mutually_exclusive_group(required=True)
    secret.add_argument("--salt", type=Path, metavar="FILE", help="this entry's salt, 64 hex digits")
    secret.add_argument("--secret", type=Path, metavar="FILE", help="the whole log's secret, 64 hex digits")
    command.add_argument("claims", nargs="+", type=_claim, metavar="NAME=VALUE")


def _claim(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    return name, value


def _open(options: argparse.Namespace) -> int:
    key = read_key(options.vkey)
    if options.salt is not None:
        salt = read_secret(options.salt, "the salt of one entry")
    else:
        salt = entry_salt(read_secret(options.secret, "the secret of a log"), options.index)
    with Folder(options.directory) as folder:
        entry = prove(folder, options.index, key)[2]
    opened = verify_claims(entry, salt, dict(options.claims))
    if options.json:
        facts = {"ok": True, "index": entry.seq, "opened": opened, "secrets": sorted(commitments(entry))}
        print(json.dumps(facts))
        return 0
    print(show_line(entry))
    for name in sorted(commitments(entry)):
        said = f"was {json.dumps(opened[name])}" if name in opened else "nothing claimed"
        print(f"    {show_text(name)}: {said}")
    return 0


def _add_account(commands: Any) -> None:
    command = commands.add_parser(
        "account", help="compare creations, reads and exports with the vault's list"
    )
    command.set_defaults(run=_account)
    _add_log(command)
    command.add_argument(
        "--objects",
        type=Path,
        required=True,
        metavar="FILE",
        help="what `appliance objects list --json` printed",
    )


def _account(options: argparse.Namespace) -> int:
    key = read_key(options.vkey)
    account = Account(_listing(options.objects))
    report = verify_log(options.directory, key, observe=account.observe)
    account.finish()
    if options.json:
        facts = {
            "ok": not account.differences,
            "origin": report.head.origin,
            "size": report.size,
            **account.counts(),
            "named": [asdict(difference) for difference in account.named],
        }
        print(json.dumps(facts))
    else:
        print(f"{report.head.origin}: {report.size} entries hold; {account.told()}")
        for difference in account.named:
            print(f"DIFFERENCE  {show_text(difference.text)}")
        if left := account.differences - len(account.named):
            print(f"            and {left} more")
    return _verdict(account)


def _verdict(account: Account) -> int:
    return Invalid.exit_code if account.differences else 0


def _listing(path: Path) -> dict[str, Listed]:
    try:
        return parse_listing(read_given(path, MAX_LISTING_BYTES))
    except Malformed as failure:
        raise Malformed(f"{path}: {failure}") from failure


def _add_report(commands: Any) -> None:
    command = commands.add_parser("report", help="write one HTML page on what the log tells")
    command.set_defaults(run=_report)
    _add_log(command)
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page; must not exist")
    command.add_argument(
        "--objects", type=Path, metavar="FILE", help="what `appliance objects list --json` printed"
    )
    command.add_argument(
        "--witness", type=Path, action="append", default=[], metavar="FILE", help="a witness's public key"
    )


def _report(options: argparse.Namespace) -> int:
    key = read_key(options.vkey)
    witnesses = [read_key(path) for path in options.witness]
    listing = None if options.objects is None else _listing(options.objects)
    account, summary = Account(listing), Summary()

    def observe(entry: Entry) -> None:
        account.observe(entry)
        summary.observe(entry, account.owner_of)

    report = verify_log(options.directory, key, observe=observe)
    account.finish()
    made = page(Sources(report, key, summary, account, witnesses, format_time(time.time())))
    write_new(options.out, made)
    if options.json:
        facts = {"ok": not account.differences, "out": str(options.out), "size": report.size}
        print(json.dumps({**facts, **account.counts()}))
    else:
        print(f"{options.out}: {report.size} entries hold; {account.told()}")
    return _verdict(account)


def _add_log(command: Any) -> None:
    command.add_argument("directory", type=Path, metavar="LOGDIR")
    command.add_argument("--vkey", type=Path, required=True, metavar="FILE", help="the log's public key")
    command.add_argument("--json", action="store_true", help="print JSON")
