"""Makes, or opens, one small bundle of several parts: a program to be killed. `make|open FOLDER`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from appliance.age import X25519Identity
from appliance.bundle.create import create_bundle
from appliance.bundle.names import TEXT
from appliance.bundle.open import open_bundle
from appliance.bundle.signer import SignerKey
from appliance.bundle.stream import bytes_member
from appliance.bundle.trust import anyone_of

TEXT_BYTES = b"a line that is written once and read once\n" * 120
SIGNER = SignerKey.from_seed("alice", bytes(range(32)))
IDENTITY = X25519Identity(bytearray(range(2, 34)))


def make(folder: Path) -> None:
    """Make the bundle, or go on with it."""
    create_bundle(
        [bytes_member("corpus/a/a.txt", TEXT, TEXT_BYTES)],
        kind="corpus",
        to=IDENTITY.recipient.text,
        sign=SIGNER,
        out_dir=folder,
        channel="lab",
        seq=7,
        now=datetime.now(tz=UTC),
        part_bytes=2048,
    )


def open_it(folder: Path) -> None:
    """Open the only bundle in the folder, or go on with it."""
    (bundle,) = folder.glob("*.bundle")
    open_bundle(bundle, IDENTITY, folder / "out", anyone_of([SIGNER.vkey]))


if __name__ == "__main__":
    {"make": make, "open": open_it}[sys.argv[1]](Path(sys.argv[2]))
