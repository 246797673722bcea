"""A second reader: opens what another worker sealed, reads every byte, and parses it.

It was started after the first worker closed its output and shares nothing with it, so what it reports can
be compared with what the first one claimed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Protocol

from appliance.bundle.content import SafetensorsChecker, TextChecker, TomlChecker
from appliance.bundle.extract import Extractor
from appliance.bundle.inner import Inner, InnerMember
from appliance.bundle.manifest import parse_manifest
from appliance.bundle.names import SAFETENSORS
from appliance.errors import ContentRefused
from appliance.export.form import BF16
from appliance.messages import Channel
from appliance.training.config import MAX_CONFIG_BYTES, parse_config
from appliance.training.documents import SEPARATOR
from appliance.training.report import MAX_ACCOUNT_BYTES, parse_account
from appliance.training.tokenizer import MAX_TOKENIZER_BYTES, parse_tokenizer
from appliance.training.trained import demand_trained
from appliance.worker.port import Port, SealedInput
from appliance.worker.rounding import RoundedChecker
from appliance.worklink import Begin, Finished, MemberHashed, Verified

BLOCK_BYTES = 1 << 20


class Checker(Protocol):
    """Judges plaintext as it streams past."""

    def feed(self, data: memoryview) -> None:
        """Take the next bytes; raises ContentRefused."""

    def finish(self) -> None:
        """Judge the whole; raises ContentRefused."""


class CorpusChecker:
    """Allowed text documents, joined by one NUL each."""

    def __init__(self) -> None:
        self._document = TextChecker("corpus")

    def feed(self, data: memoryview) -> None:
        """Take the next bytes."""
        first, *others = bytes(data).split(SEPARATOR)
        self._document.feed(memoryview(first))
        for document in others:
            self._document.finish()
            self._document = TextChecker("corpus")
            self._document.feed(memoryview(document))

    def finish(self) -> None:
        """Judge the last document."""
        self._document.finish()


class ConfigChecker:
    """One training configuration that can be trained as it stands."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._toml = TomlChecker("config")

    def feed(self, data: memoryview) -> None:
        """Take the next bytes."""
        if len(self._data) + len(data) > MAX_CONFIG_BYTES:
            raise ContentRefused(f"config: expected at most {MAX_CONFIG_BYTES} bytes, found more")
        self._toml.feed(data)
        self._data += data

    def finish(self) -> None:
        """Parse the whole."""
        self._toml.finish()
        parse_config(bytes(self._data))


class SmallChecker:
    """Something small enough to be held whole, as its parser takes it: an account, a tokenizer."""

    def __init__(self, kind: str, limit_bytes: int, parse: Callable[[bytes], object]) -> None:
        self._kind, self._limit_bytes, self._parse = kind, limit_bytes, parse
        self._data = bytearray()

    def feed(self, data: memoryview) -> None:
        """Take the next bytes."""
        if len(self._data) + len(data) > self._limit_bytes:
            raise ContentRefused(f"{self._kind}: expected at most {self._limit_bytes} bytes, found more")
        self._data += data

    def finish(self) -> None:
        """Parse the whole."""
        self._parse(bytes(self._data))


def checker_of(kind: str, size: int, *, trained: bool) -> Checker:
    """Return the checker of an object kind; raises ContentRefused where there is none.

    Weights that were `trained` here, and may leave, can have only one header.
    """
    if kind == "weights" and trained:
        return SafetensorsChecker(kind, size, demand_trained)
    if kind in ("weights", "optimizer"):
        return SafetensorsChecker(kind, size)
    if kind == "corpus":
        return CorpusChecker()
    if kind == "config":
        return ConfigChecker()
    if kind == "report":
        return SmallChecker("account", MAX_ACCOUNT_BYTES, parse_account)
    if kind == "tokenizer":
        return SmallChecker(kind, MAX_TOKENIZER_BYTES, parse_tokenizer)
    raise ContentRefused(f"nothing reads objects of kind {kind!r}")


def run(channel: Channel, begin: Begin) -> None:
    """Verify staged objects, or the parts of an export."""
    port = Port(channel)
    if begin.task == "verify-export":
        _verify_export(port, rounded=begin.numbers.get("rounding") == BF16)
        return
    for item in port.inputs().values():
        port.send(_verify(item, trained=bool(begin.numbers.get("trained"))))
        item.close()


def _verify(item: SealedInput, *, trained: bool) -> Verified:
    reader = item.reader()
    size = reader.size
    checker = checker_of(item.kind, size, trained=trained)
    plain = hashlib.sha256()
    block = memoryview(bytearray(BLOCK_BYTES))
    while count := reader.readinto(block):
        plain.update(block[:count])
        checker.feed(block[:count])
    checker.finish()
    return Verified(item.role, size, _file_digest(item.descriptor), plain.hexdigest())


def _file_digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    position = 0
    while data := os.pread(descriptor, BLOCK_BYTES, position):
        digest.update(data)
        position += len(data)
    return digest.hexdigest()


class _Report:
    """Reports each member of an export as the recipient would find it."""

    def __init__(self, port: Port, *, rounded: bool) -> None:
        self._port = port
        self._rounded = rounded
        self._checkers: list[SafetensorsChecker | RoundedChecker] = []

    def contents(self, inner: Inner) -> None:
        """Learn of all members."""

    def begin(self, member: InnerMember) -> None:
        """Begin to look at the header of a model, and at its numbers where it is to leave rounded."""
        self._checkers = []
        if member.media_type == SAFETENSORS:
            self._checkers.append(SafetensorsChecker(member.name, member.size, demand_trained))
            if self._rounded:
                self._checkers.append(RoundedChecker(member.size))

    def data(self, data: memoryview) -> None:
        """Bytes pass by; the extractor hashes and judges them."""
        for checker in self._checkers:
            checker.feed(data)

    def end(self, member: InnerMember) -> None:
        """Report a member that was complete and as promised."""
        self._port.send(MemberHashed(member.name, member.media_type, member.size, member.sha256))


def _verify_export(port: Port, *, rounded: bool) -> None:
    """Take an export apart as its recipient would; the inputs are its parts in order."""
    manifest = parse_manifest(port.file("manifest"))
    extractor = Extractor(manifest, _Report(port, rounded=rounded))
    for reader in port.parts():
        block = memoryview(bytearray(BLOCK_BYTES))
        while count := reader.readinto(block):
            extractor.feed(block[:count])
    extractor.finish()
    port.send(Finished(0, stopped=False))
