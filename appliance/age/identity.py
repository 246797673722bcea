"""What all kinds of key have in common: recipients wrap a file key, identities unwrap it and can be wiped.

Guarantee: after `wipe` every use raises SealedError; nothing is ever opened with zeros.

KNOWN: the libraries return shared secrets and HPKE plaintexts as immutable bytes, which cannot be wiped here;
the process that holds an identity ends when the vault is sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from appliance.age import bech32
from appliance.age.header import Stanza
from appliance.errors import SealedError, UsageError

SECRET_SIZE = 32
"""Bytes of every native identity, of either kind."""


class Recipient(Protocol):
    """A public key that a file can be sealed to."""

    @property
    def post_quantum(self) -> bool:
        """Whether the wrap holds against a quantum computer."""

    @property
    def text(self) -> str:
        """The `age1…` string."""

    def wrap(self, file_key: bytes | bytearray) -> Stanza:
        """Wrap a 16-byte file key under a fresh ephemeral key."""


class Identity:
    """A 32-byte secret that opens files; after `wipe` every use raises SealedError."""

    __slots__ = ("_secret",)

    kind: ClassVar[str]
    prefix: ClassVar[str]

    def __init__(self, secret: bytes | bytearray) -> None:
        if len(secret) != SECRET_SIZE:
            raise UsageError(f"identity refused: expected {SECRET_SIZE} bytes, found {len(secret)}")
        self._secret: bytearray | memoryview | None = bytearray(secret)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def recipient(self) -> Recipient:
        """The public half."""
        raise NotImplementedError

    def unwrap(self, stanza: Stanza) -> bytearray | None:
        """Return the file key of one stanza of this kind, None when it was wrapped for somebody else."""
        raise NotImplementedError

    def encode(self) -> bytearray:
        """Return the identity's text, `AGE-SECRET-KEY-…`, as ASCII that the caller wipes."""
        lower = bech32.encode(self.prefix, self.secret())
        text = lower.upper()
        lower[:] = bytes(len(lower))
        return text

    def secret(self) -> bytearray | memoryview:
        """Return the live 32 bytes, not a copy; raises SealedError after `wipe`."""
        if self._secret is None:
            raise SealedError("this identity was wiped from memory; unseal the vault to use it again")
        return self._secret

    def move(self, take: Callable[[bytearray], memoryview]) -> None:
        """Keep the secret elsewhere from now on: `take` returns where, and overwrites where it lay."""
        held = self.secret()
        if isinstance(held, bytearray):
            self._secret = take(held)

    def wipe(self) -> None:
        """Overwrite the secret."""
        if self._secret is not None:
            self._secret[:] = bytes(SECRET_SIZE)
            self._secret = None
