"""One sender, one recipient, and a way to make a small bundle between them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.age import X25519Identity
from appliance.bundle.create import create_bundle
from appliance.bundle.names import TEXT, TOML
from appliance.bundle.signer import SignerKey
from appliance.bundle.stream import Member, bytes_member

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Entropy:
    """Reproducible bytes in the place of the kernel's."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(b"entropy %d" % self._count).digest(size)


@dataclass(frozen=True)
class World:
    """Alice sends, the appliance (a transfer identity) receives; Mallory is trusted by nobody."""

    root: Path
    alice: SignerKey
    mallory: SignerKey
    identity: X25519Identity
    members: tuple[Member, ...]

    @property
    def to(self) -> str:
        return self.identity.recipient.text

    def create(self, **changed: object) -> Path:
        settings = {
            "kind": "corpus",
            "to": self.to,
            "sign": self.alice,
            "out_dir": self.root,
            "channel": "default",
            "seq": 7,
            "now": NOW,
            "entropy": Entropy(),
        }
        members = changed.pop("members", self.members)
        return create_bundle(members, **(settings | changed))


@pytest.fixture
def world(tmp_path):
    return World(
        root=tmp_path,
        alice=SignerKey.from_seed("alice@example", bytes(range(32))),
        mallory=SignerKey.from_seed("mallory", bytes(range(1, 33))),
        identity=X25519Identity(bytearray(range(2, 34))),
        members=(
            bytes_member("corpus/tales/one.txt", TEXT, "Il était une fois\n".encode()),
            bytes_member("corpus/tales/two.txt", TEXT, b"once upon a time\n" * 40),
            bytes_member("config/small.toml", TOML, b"[train]\nsteps = 3\n"),
        ),
    )
