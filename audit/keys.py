"""The keys of a log by epoch: which key's word counts for a tree head of which size.

Guarantees a verifier that a retired key says nothing about entries after its time, and a newer key nothing
about those before it: epoch n signs the heads of more than `ends[n - 1]` entries, up to `ends[n]`.
Source: docs/formats/audit-log.md, "Epochs of the key".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from audit.errors import BadSignature, Invalid, Malformed
from audit.mldsa import MLDSA44
from audit.note import ED25519, VerifierKey


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Per epoch the log's Ed25519 key and, where it is demanded, its ML-DSA-44 key; sizes at their ends."""

    epochs: tuple[tuple[VerifierKey, ...], ...]
    ends: tuple[int, ...] = ()

    @classmethod
    def of(cls, keys: VerifierKey | LogKeys, post_quantum: VerifierKey | None = None) -> LogKeys:
        """Take a log's first keys, or all that is known, as it is; raises Malformed for keys of two logs."""
        if isinstance(keys, LogKeys):
            return keys
        if post_quantum is None:
            return cls(((keys,),))
        if (post_quantum.name, post_quantum.key_type) != (keys.name, MLDSA44):
            raise Malformed(
                f"post-quantum key: expected one of type 0x06 named {keys.name}, found type "
                f"0x{post_quantum.key_type:02x} named {post_quantum.name}"
            )
        return cls(((keys, post_quantum),))

    @property
    def name(self) -> str:
        """The log's origin: the name of all its keys."""
        return self.epochs[0][0].name

    @property
    def known(self) -> tuple[VerifierKey, ...]:
        """Every key of every epoch."""
        return tuple(key for epoch in self.epochs for key in epoch)

    @property
    def newest(self) -> tuple[VerifierKey, ...]:
        """The keys of the open epoch."""
        return self.epochs[-1]

    def at(self, size: int) -> tuple[VerifierKey, ...]:
        """Return the keys that sign a head of `size` entries."""
        return self.epochs[bisect_left(self.ends, size)]

    def then(self, end: int, epoch: Sequence[VerifierKey]) -> LogKeys:
        """Close the newest epoch at `end` entries and open the next; raises Invalid for unfit keys."""
        for key in epoch:
            if key.name != self.name or any(key.public_key == old.public_key for old in self.known):
                raise Invalid(
                    f"log key {key.text[:120]}: expected a new key named {self.name}, found one of another "
                    "name, or one that this log used before",
                )
        if [key.key_type for key in epoch] != [ED25519, MLDSA44][: len(self.newest)]:
            raise Invalid(
                f"log key: expected the next epoch's {' and '.join(_kind(key) for key in self.newest)} keys, "
                f"found {' and '.join(_kind(key) for key in epoch)}",
            )
        return LogKeys((*self.epochs, tuple(epoch)), (*self.ends, end))

    def demand(self, size: int, signed: Sequence[VerifierKey]) -> None:
        """Refuse a head of `size` entries unless the keys of its time, and no others of this log, signed it.

        `signed` are known keys whose signatures were checked. Raises Invalid, BadSignature.
        """
        epoch = bisect_left(self.ends, size)
        for key in signed:
            if key not in self.epochs[epoch]:
                other = next(n for n, keys in enumerate(self.epochs) if key in keys)
                raise Invalid(
                    f"tree head of {size} entries: expected the key of epoch {epoch}, found a signature by "
                    f"that of epoch {other}, which signs {self._range(other)}: a "
                    f"{'retired key beyond its end' if other < epoch else 'newer key over older entries'}",
                )
        for key in self.epochs[epoch]:
            if key not in signed:
                raise BadSignature(
                    f"tree head of {size} entries: expected also the {_kind(key)} signature of epoch {epoch}"
                    ", found none",
                )

    def _range(self, epoch: int) -> str:
        first = self.ends[epoch - 1] + 1 if epoch else 0
        return f"{first} to {self.ends[epoch]}" if epoch < len(self.ends) else f"{first} and above"


def _kind(key: VerifierKey) -> str:
    return "ML-DSA-44" if key.key_type == MLDSA44 else "Ed25519"
