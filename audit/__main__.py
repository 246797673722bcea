"""The auditor's program: `python -m audit COMMAND LOGDIR`, with public keys and no daemon.

Guarantees whoever reads its exit code: 0 only if everything named was checked and held; what was wrong
(6 contradiction, 7 signature, 12 malformed) and what could not be checked (13) are told apart. `verify` is
here, the commands that tell what stands in a log are in `audit.commands`, a witness's in
`audit.witness_command`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from audit.commands import add_commands, index
from audit.epoch import read_chain
from audit.errors import AuditError, CouldNotCheck
from audit.folder import Folder
from audit.given import read_given, read_key
from audit.keys import LogKeys
from audit.receipt import MAX_RECEIPT_BYTES, VerifiedReceipt
from audit.tiles import MAX_ENTRY_BYTES
from audit.verify import Report, verify_log, verify_receipt
from audit.witness_command import add_witness

_PROOF_SUFFIX = ".tlog-proof"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status, with what went wrong on standard error."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except BrokenPipeError:  # `| head` has seen enough; keep the interpreter from flushing into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as failure:
        return _fail(CouldNotCheck(f"{failure.filename or options.directory}: {failure.strerror}"), options)
    except AuditError as failure:
        return _fail(failure, options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audit",
        description="Check an appliance's log with nothing but its public key.",
        epilog="exit status: 0 held, 2 usage, 6 contradiction, 7 signature, 9 not a witness's latest, "
        "11 no log of this witness, 12 malformed, 13 could not check, 16 busy, 21 file exists",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    verify = commands.add_parser(
        "verify", help="rehash every entry and tile; check signature, root, receipts"
    )
    verify.set_defaults(run=_verify)
    verify.add_argument("directory", type=Path, metavar="LOGDIR")
    verify.add_argument("--vkey", type=Path, required=True, metavar="FILE", help="the log's first public key")
    verify.add_argument("--pq-vkey", type=Path, metavar="FILE", help="demand its post-quantum signatures too")
    verify.add_argument("--origin", metavar="NAME", help="the log's name, to be compared with the signed one")
    verify.add_argument(
        "--receipt",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="receipts NAME.tlog-proof, each with its entry beside it as NAME.entry",
    )
    verify.add_argument(
        "--witness", type=Path, action="append", default=[], metavar="FILE", help="a witness's public key"
    )
    verify.add_argument(
        "--quorum", type=index, metavar="K", help="how many of them must have cosigned  [default: all]"
    )
    verify.add_argument("--json", action="store_true", help="print JSON")
    add_commands(commands)
    add_witness(commands)
    return parser


def _verify(options: argparse.Namespace) -> int:
    second = None if options.pq_vkey is None else read_key(options.pq_vkey)
    first = LogKeys.of(read_key(options.vkey), second)
    with Folder(options.directory) as folder:
        keys = read_chain(folder, first).keys
    receipts = [_verify_receipt(path, keys) for path in options.receipt]
    witnesses = [read_key(path) for path in options.witness]
    quorum = len(witnesses) if options.quorum is None else options.quorum
    report = verify_log(
        options.directory, first, options.origin, receipts, witnesses=witnesses, quorum=quorum
    )
    if options.json:
        print(json.dumps({"ok": True, **_facts(report)}))
        return 0
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kinds.items()))
    signers = " and ".join(f"{key.name}+{key.key_id.hex()}" for key in report.signers)
    print(f"OK  {report.head.origin}: {report.size} entries, root {report.root.hex()}")
    print(f"    entries    hashed and in sequence; {report.allowed} allowed, {report.denied} denied; {kinds}")
    print(
        f"    tiles      {report.tiles} files and {report.partials} partials equal the entries; nothing else"
    )
    if len(report.epochs) > 1:
        ends = ", ".join(str(end) for end in report.epochs[1:])
        print(f"    keys       {len(report.epochs)}, each named under the one before; new ones from {ends}")
    if report.continues is not None:
        older = report.continues.head
        said = f"{older.origin}, which had {older.size} entries, root {older.root.hex()}"
        print(f"    restored   this log continues {ascii(said)[1:-1]}")
    if report.witnessed is not None:
        names = ", ".join(each.witness.name for each in report.cosignatures) or "nobody whose key was given"
        print(f"    witnessed  the first {report.witnessed.size} entries, by {names}")
    print(f"    signature  tree head signed by {signers}; {report.receipts} receipts lie on this history")
    return 0


def _verify_receipt(path: Path, keys: LogKeys) -> VerifiedReceipt:
    if path.suffix != _PROOF_SUFFIX:
        raise CouldNotCheck(
            f"{path}: expected a receipt named NAME{_PROOF_SUFFIX}, its entry as NAME.entry beside it"
        )
    entry = read_given(path.with_suffix(".entry"), MAX_ENTRY_BYTES)
    try:
        return verify_receipt(read_given(path, MAX_RECEIPT_BYTES), entry, keys)
    except AuditError as failure:
        raise type(failure)(f"{path}: {failure}") from failure


def _facts(report: Report) -> dict[str, object]:
    return {
        "origin": report.head.origin,
        "size": report.size,
        "root": report.root.hex(),
        "kinds": dict(sorted(report.kinds.items())),
        "allowed": report.allowed,
        "denied": report.denied,
        "first_time": report.first_time,
        "last_time": report.last_time,
        "tiles": report.tiles,
        "partials": report.partials,
        "receipts": report.receipts,
        "epochs": list(report.epochs),
        "signers": [key.text for key in report.signers],
        "witnessed": None if report.witnessed is None else report.witnessed.size,
        "cosignatures": {each.witness.name: each.seconds for each in report.cosignatures},
        "continues": None if report.continues is None else dict(report.continues.context),
    }


def _fail(failure: AuditError, options: argparse.Namespace) -> int:
    verdict = "COULD NOT CHECK" if isinstance(failure, CouldNotCheck) else "FAILED"
    # ascii(): names in a hostile folder or receipt must not steer the terminal.
    message = ascii(str(failure))[1:-1]
    print(f"{verdict}  {message}", file=sys.stderr)
    if options.json:
        print(json.dumps({"ok": False, "code": failure.code, "message": str(failure)}))
    return failure.exit_code


if __name__ == "__main__":
    sys.exit(main())
