"""`python -m audit witness`: the auditor as a witness, with a key, a folder of their own, and no network.

Guarantees whoever runs it that each outcome of the specification has its own exit code (0 cosigned, 6 fork
or bad proof, 7 signature, 9 not my latest, 11 unknown log, 12 old above new or malformed), and that nothing
is answered with any other code than 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit.errors import AlreadyExists
from audit.given import read_given, read_key, write_new
from audit.show import show_text
from audit.witness import MAX_CHALLENGE_BYTES, origin_of, parse_challenge
from audit.witness_state import answer, create_witness, read_witness_key

Clock = Callable[[], float]


def add_witness(commands: Any, clock: Clock = time.time) -> None:
    """Add the command to the auditor's program."""
    command = commands.add_parser("witness", help="cosign a log's tree head if the log has only grown")
    command.set_defaults(run=lambda options: _witness(options, command, clock), json=False)
    command.add_argument(
        "--state", dest="directory", type=Path, required=True, metavar="DIR", help="what this witness keeps"
    )
    command.add_argument("--init", metavar="NAME", help="make a witness's key in DIR, and end")
    command.add_argument("--key", type=Path, metavar="FILE", help="the witness's secret key, NAME.key")
    command.add_argument(
        "--log-key",
        dest="log_keys",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="public key of a log to be watched; again for its later keys, and for other logs",
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="the answer; must not exist [default: print]"
    )
    command.add_argument("challenge", type=Path, nargs="?", metavar="CHALLENGE", help="what the log brought")


def _witness(options: argparse.Namespace, command: argparse.ArgumentParser, clock: Clock) -> int:
    if options.init is not None:
        if options.challenge or options.key or options.log_keys or options.out:
            command.error("--init NAME goes with --state DIR alone")
        secret, public = create_witness(options.directory, options.init, os.urandom(32))
        print(f"secret key  {secret}\npublic key  {public}, for `appliance init --witness`")
        return 0
    if options.challenge is None or options.key is None or not options.log_keys:
        command.error("expected --key FILE, --log-key FILE and CHALLENGE; or --init NAME")
    if options.out is not None and os.path.lexists(options.out):  # before a head is stored as answered
        raise AlreadyExists(f"{options.out}: expected no file of this name; choose another, or remove it")
    keys = [read_key(path) for path in options.log_keys]
    data = read_given(options.challenge, MAX_CHALLENGE_BYTES)
    line = answer(data, options.directory, keys, read_witness_key(options.key), int(clock()))
    if options.out is None:
        sys.stdout.buffer.write(line)
        return 0
    write_new(options.out, line)
    print(f"{options.out}: cosigned a head of {show_text(origin_of(parse_challenge(data)))}")
    return 0
