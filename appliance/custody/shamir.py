"""`shamir:` custody: the 32 bytes are split into SLIP-39 shares of 33 words; any K of them give them back.

Guarantee: K-1 shares tell nothing about the 32 bytes, and nothing of them is on the disk. In a ceremony each
share is judged as it is entered, by its own checksum and by the number of its set, so that a mistake costs
one entry and not the ceremony; an error names a word's place and never a word. Source: SLIP-0039, through
the reference implementation `shamir-mnemonic`; extendable, one group, no passphrase.

KNOWN: that library works on Python's strings and numbers, which cannot be overwritten; the command that
collects the shares and the custodian that joins them are the processes that hold them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shamir_mnemonic import MnemonicError, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.share import Share
from shamir_mnemonic.wordlist import WORD_INDEX_MAP

from appliance.age.identity import SECRET_SIZE
from appliance.custody.lock import Made
from appliance.custody.uri import ShamirURI, parse_shamir
from appliance.errors import UsageError, WrongSecret
from appliance.strictjson import JSON

FIELD = "shamir"
WORDS = 33
_MAX_IDENTIFIER = 2**15 - 1
_MAX_LINE = 1024


class ShareMistyped(WrongSecret):
    """A share whose words or checksum are wrong: somebody mistyped or swapped a word."""


class ShareRepeated(WrongSecret):
    """A share that was entered already."""


class ShareOfAnotherSet(WrongSecret):
    """A sound share that belongs to another set: an older one, or another vault's."""


@dataclass(frozen=True, slots=True)
class ShareSet:
    """One set of shares, by its public number (15 bits, written into each of them)."""

    threshold: int
    shares: int
    identifier: int

    @property
    def uri(self) -> str:
        """The custody URI."""
        return ShamirURI(self.threshold, self.shares).text

    def fields(self) -> Mapping[str, JSON]:
        """Return what the record holds."""
        return {FIELD: {"identifier": self.identifier, "shares": self.shares, "threshold": self.threshold}}

    def open(self, secret: bytearray | None, beside: Path) -> bytearray:
        """Join the shares, one a line; more than are needed must all fit together. Raises WrongSecret."""
        del beside
        if secret is None:
            raise UsageError(f"custody: expected {self.threshold} shares, one a line, found none")
        ceremony = Ceremony(self)
        for line in bytes(secret).decode("ascii", "replace").splitlines():
            if line.strip():
                ceremony.add(line)
        return ceremony.join()

    def destroy(self, secret: bytearray | None) -> None:
        """Shares are on paper, with people: there is nothing here to remove."""


class Ceremony:
    """Shares of one set, entered one after the other; what is refused is not counted, and the rest stands."""

    def __init__(self, of: ShareSet, wanted: int | None = None) -> None:
        self._set = of
        self._entered: dict[int, str] = {}
        self.wanted = of.threshold if wanted is None else wanted
        """How many shares this ceremony is for: enough to open, or all, to prove each of a new set."""

    @property
    def missing(self) -> int:
        """How many shares are still to be entered."""
        return max(0, self.wanted - len(self._entered))

    def add(self, line: str) -> int:
        """Judge one share and keep it; return its number in the set, from 1.

        Raises ShareMistyped, ShareRepeated, ShareOfAnotherSet; the ceremony goes on.
        """
        words = line.lower().split()
        share = _parse(words)
        if (share.identifier, share.member_threshold) != (self._set.identifier, self._set.threshold):
            raise ShareOfAnotherSet(
                f"share {share.index + 1}: expected one of set {self._set.identifier}, found one of set "
                f"{share.identifier}: it is sound, but of an older set or of another vault"
            )
        if share.index in self._entered:
            raise ShareRepeated(f"share {share.index + 1}: expected another share, found one entered already")
        self._entered[share.index] = " ".join(words)
        return int(share.index) + 1

    def lines(self) -> bytearray:
        """Return the shares that were entered, one a line, for the custodian's pipe."""
        return bytearray("".join(f"{words}\n" for words in self._entered.values()).encode("ascii"))

    def join(self) -> bytearray:
        """Return the 32 bytes; raises WrongSecret for too few, ShareOfAnotherSet for a foreign one."""
        if len(self._entered) < self._set.threshold:
            raise WrongSecret(f"shares: expected {self._set.threshold}, found {len(self._entered)}")
        (*first, last), rest = self._split()
        secret = self._combine([*first, last])
        for other in rest:
            if self._combine([*first, other]) != secret:
                raise ShareOfAnotherSet(_DOES_NOT_FIT)
        return bytearray(secret)

    def _split(self) -> tuple[list[str], list[str]]:
        entered = list(self._entered.values())
        return entered[: self._set.threshold], entered[self._set.threshold :]

    def _combine(self, shares: list[str]) -> bytes:
        try:
            return bytes(combine_mnemonics(shares))
        except MnemonicError as error:
            raise ShareOfAnotherSet(_DOES_NOT_FIT) from error


_DOES_NOT_FIT = (
    "shares: expected all of one set, found one that bears the set's number and does not fit the others: "
    "begin again, with other shares"
)


def make(uri: str) -> Made:
    """Split fresh randomness; the shares leave this process once and are never on the disk."""
    wanted = parse_shamir(uri)
    secret = bytearray(os.urandom(SECRET_SIZE))
    (texts,) = generate_mnemonics(1, [(wanted.threshold, wanted.shares)], bytes(secret), iteration_exponent=0)
    lock = ShareSet(wanted.threshold, wanted.shares, int(Share.from_mnemonic(texts[0]).identifier))
    return Made(lock, secret, tuple(bytearray(text.encode("ascii")) for text in texts))


def parse(uri: str, fields: Any) -> ShareSet:
    """Parse what `ShareSet.fields` says; raises ValueError, LookupError or TypeError."""
    wanted = parse_shamir(uri)
    lock = ShareSet(int(fields["threshold"]), int(fields["shares"]), int(fields["identifier"]))
    if (lock.threshold, lock.shares) != (wanted.threshold, wanted.shares):
        raise ValueError("another number of shares than the URI says")
    if not 0 <= lock.identifier <= _MAX_IDENTIFIER:
        raise ValueError("a set's number outside 15 bits")
    return lock


def _parse(words: list[str]) -> Share:
    if len(words) != WORDS or sum(map(len, words)) > _MAX_LINE:
        raise ShareMistyped(f"share: expected {WORDS} words, found {len(words)}; enter the whole share again")
    for place, word in enumerate(words, 1):
        if word not in WORD_INDEX_MAP:
            raise ShareMistyped(f"share: word {place} is none of the list's words; enter the share again")
    try:
        return Share.from_mnemonic(" ".join(words))
    except MnemonicError as error:
        raise ShareMistyped(
            "share: its checksum does not fit: a word is mistyped or out of its place; enter the share again"
        ) from error
