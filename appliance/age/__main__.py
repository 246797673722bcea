"""`python -m appliance.age keygen | encrypt -r RECIPIENT… | decrypt -i IDENTITY_FILE`, stdin to stdout.

Exchanges files with the public `age` program in both directions (binary format, no armor). On an error the
exit code is that of `appliance --help` and what was written to standard output is to be discarded.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from pathlib import Path
from typing import BinaryIO

from appliance.age.files import decrypt, encrypt
from appliance.age.hybrid import HybridIdentity
from appliance.age.identity import Identity
from appliance.age.recipients import parse_identity_file, parse_recipient
from appliance.age.x25519 import X25519Identity
from appliance.errors import ApplianceError, MediumMissing, SpaceExhausted

_MAX_IDENTITY_FILE = 64 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code of DESIGN's table."""
    options = _parser().parse_args(arguments)
    try:
        try:
            with open(sys.stdin.fileno(), "rb", closefd=False) as source:
                _run(options, source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise _stream_failed(error) from error
    except ApplianceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _stream_failed(error: OSError) -> ApplianceError:
    """Say what became of standard input or output, and keep the last flush from failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    kind = SpaceExhausted if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else MediumMissing
    return kind(f"standard input or output failed: {error.strerror}; discard what was written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m appliance.age", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    keygen = commands.add_parser("keygen", help="print a new identity file")
    keygen.add_argument("--hybrid", action="store_true", help="post-quantum: ML-KEM-768 with X25519")
    sealing = commands.add_parser("encrypt", help="seal standard input")
    sealing.add_argument("-r", dest="recipients", metavar="RECIPIENT", action="append", required=True)
    opening = commands.add_parser("decrypt", help="open standard input")
    opening.add_argument(
        "-i", dest="identity_files", metavar="IDENTITY_FILE", type=Path, action="append", required=True
    )
    return parser


def _run(options: argparse.Namespace, source: io.BufferedIOBase, target: BinaryIO) -> None:
    if options.command == "keygen":
        _keygen(target, hybrid=options.hybrid)
    elif options.command == "encrypt":
        encrypt(source, target, [parse_recipient(text) for text in options.recipients])
    else:
        identities = [identity for path in options.identity_files for identity in _read_identities(path)]
        decrypt(source, target, identities)


def _keygen(target: BinaryIO, *, hybrid: bool) -> None:
    identity: Identity = HybridIdentity.generate() if hybrid else X25519Identity.generate()
    recipient = identity.recipient.text
    target.write(b"# public key: " + recipient.encode("ascii") + b"\n" + identity.encode() + b"\n")
    print(f"Public key: {recipient}", file=sys.stderr)


def _read_identities(path: Path) -> tuple[Identity, ...]:
    try:
        with path.open("rb") as stream:
            return parse_identity_file(stream.read(_MAX_IDENTITY_FILE))
    except OSError as error:
        raise MediumMissing(
            f"identity file {path}: expected a readable file, found: {error.strerror}"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
