"""What every kind of custody has in common: a lock that is opened gives 32 bytes, the slot's identity.

A lock is what stands in `<slot>.custody.json` about one kind: salts, wrapped keys, register values. All of it
is public. Making one gives the 32 bytes too, and for shares the shares, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from appliance.strictjson import JSON


class Lock(Protocol):
    """How one slot is opened."""

    @property
    def uri(self) -> str:
        """The custody URI, canonical."""

    def fields(self) -> Mapping[str, JSON]:
        """Return what the record holds beside URI and recipient; the inverse of the kind's parser."""

    def open(self, secret: bytearray | None, beside: Path) -> bytearray:
        """Return the 32 bytes, which the caller wipes; `beside` is the slot's path without a suffix.

        Raises WrongSecret, DeviceMissing, PlatformChanged, UsageError where a secret is lacking.
        """

    def destroy(self, secret: bytearray | None) -> None:
        """Remove what the lock keeps outside the slot's files: a key on a token, an index in a TPM."""


@dataclass(frozen=True, slots=True, repr=False)
class Made:
    """A new lock, the 32 bytes behind it, and the shares of them where they were split."""

    lock: Lock
    secret: bytearray
    shares: tuple[bytearray, ...] = field(default=())

    def wipe(self) -> None:
        """Overwrite the 32 bytes and the shares."""
        for buffer in (self.secret, *self.shares):
            buffer[:] = bytes(len(buffer))
