"""`make bundle`: the offline install bundle of the commit checked out; needs git, g++ and pip's index."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from appliance.errors import ApplianceError
from appliance.release.make import Order, make_bundle, signers_line

REPOSITORY = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Make one bundle; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m appliance.release", description=__doc__)
    parser.add_argument("--key", type=Path, required=True, help="the OpenSSH private key that signs releases")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the bundle (dist)")
    parser.add_argument("--with-gpu", action="store_true", help="add the packages of the extra gpu")
    given = parser.parse_args(arguments)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or _commit_time())
    try:
        order = Order(REPOSITORY, given.key.absolute(), given.out.absolute(), epoch, given.with_gpu)
        folder = make_bundle(order)
        signers = given.out / "release.signers"
        signers.write_text(signers_line(order.key), encoding="utf-8")
    except ApplianceError as refused:
        sys.stderr.write(f"error: {refused}\n")
        return int(refused.exit_code)
    print(f"{folder}\n{signers}: give it to operators another way than the bundle")
    return 0


def _commit_time() -> str:
    """Return the time of the commit, in seconds: what is built from it bears no other."""
    told = subprocess.run(
        ["git", "-C", REPOSITORY, "log", "-1", "--format=%ct"],  # noqa: S607  git is the developer's own
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
