"""`passphrase:` custody: Argon2id of the typed words *is* the 32-byte identity that opens the slot.

Guarantee: without the passphrase each guess costs the stated memory and time; salt and costs lie beside the
file, so the public `age` program can open it once the 32 bytes are derived again. Source: RFC 9106, through
libsodium's crypto_pwhash.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # compiled, ships no types

from appliance.age.identity import SECRET_SIZE
from appliance.custody.lock import Made
from appliance.custody.uri import PASSPHRASE
from appliance.errors import ApplianceError, IntegrityError, UsageError, WrongSecret
from appliance.strictjson import JSON

FIELD = "argon2id"
SALT_SIZE = 16
_ARGON2ID13 = 2  # crypto_pwhash_ALG_ARGON2ID13
_MAX_PASSPHRASE = 1024


@dataclass(frozen=True, slots=True)
class Costs:
    """Argon2id's costs: passes over the memory, and the memory in bytes. One lane, as libsodium has it."""

    passes: int
    memory_bytes: int

    def __post_init__(self) -> None:
        """Refuse costs outside what a careful host would run: a tampered file must not stall the start."""
        kib, rest = divmod(self.memory_bytes, 1024)  # libsodium would drop the rest in silence
        if rest or not (1 <= self.passes <= 64 and 8 <= kib <= 4 * 2**20):
            raise IntegrityError(
                "custody file: expected 1 to 64 passes over 8 KiB to 4 GiB in whole KiB, found "
                f"{self.passes} over {self.memory_bytes} bytes"
            )


MODERATE = Costs(passes=3, memory_bytes=256 * 2**20)
"""libsodium's MODERATE: about 0.7 s a guess on a 2-core VM (2026-11-21)."""


@dataclass(frozen=True, slots=True)
class PassphraseLock:
    """Salt and costs: with the words they give the 32 bytes."""

    salt: bytes
    costs: Costs

    @property
    def uri(self) -> str:
        """The custody URI."""
        return PASSPHRASE

    def fields(self) -> Mapping[str, JSON]:
        """Return what the record holds."""
        costs = {"memory_bytes": self.costs.memory_bytes, "passes": self.costs.passes}
        return {FIELD: {**costs, "salt": self.salt.hex()}}

    def open(self, secret: bytearray | None, beside: Path) -> bytearray:
        """Derive the 32 bytes from the words; whether they are the right ones, the recipient tells."""
        if secret is None:
            raise UsageError(f"slot {beside.name}: expected a passphrase, found none")
        return derive_secret(secret, self.salt, self.costs)

    def destroy(self, secret: bytearray | None) -> None:
        """Nothing is kept outside the slot's files."""


def make(secret: bytearray | None, costs: Costs) -> Made:
    """Lock with these words under a fresh salt; raises UsageError where there are none."""
    if not secret:
        raise UsageError("custody: expected a passphrase, found none")
    lock = PassphraseLock(new_salt(), costs)
    return Made(lock, derive_secret(secret, lock.salt, costs))


def parse(fields: Any) -> PassphraseLock:
    """Parse what `PassphraseLock.fields` says; raises ValueError, LookupError, TypeError, IntegrityError."""
    costs = Costs(int(fields["passes"]), int(fields["memory_bytes"]))
    return PassphraseLock(bytes.fromhex(fields["salt"]), costs)


def new_salt() -> bytes:
    """Return a fresh 16-byte salt."""
    return os.urandom(SALT_SIZE)


def derive_secret(passphrase: bytearray, salt: bytes, costs: Costs) -> bytearray:
    """Return the 32-byte identity secret; the caller wipes both. Raises WrongSecret when nothing was typed.

    The words go to libsodium by pointer: no immutable copy of them is made.
    """
    if not passphrase or len(passphrase) > _MAX_PASSPHRASE:
        raise WrongSecret(f"passphrase: expected 1 to {_MAX_PASSPHRASE} bytes, found {len(passphrase)}")
    if len(salt) != SALT_SIZE:
        raise IntegrityError(f"custody file: expected a salt of {SALT_SIZE} bytes, found {len(salt)}")
    secret = bytearray(SECRET_SIZE)
    failed = lib.crypto_pwhash(
        ffi.cast("unsigned char *", ffi.from_buffer(secret)),
        SECRET_SIZE,
        ffi.cast("char *", ffi.from_buffer(passphrase)),
        len(passphrase),
        salt,
        costs.passes,
        costs.memory_bytes,
        _ARGON2ID13,
    )
    if failed:
        raise ApplianceError(
            f"Argon2id: expected {costs.memory_bytes} bytes of free memory, found too little"
        )
    return secret
