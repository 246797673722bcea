"""What may cross the gap, decided by parsing it: text, TOML, JSON and safetensors, nothing that can run.

Guarantees to whoever reads an imported object later: text is UTF-8 without control or bidirectional
characters (so it cannot drive a terminal, nor show a reviewer other words than a program reads), TOML and
JSON parse, and a safetensors file has a bounded header whose tensors fill it exactly. Checkers see a
member's bytes as they pass, in constant memory for text and tensors.
Source: docs/formats/transfer-bundle.md, section Content; Unicode UAX 9 for the bidirectional controls.
"""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from collections.abc import Callable
from typing import Protocol

from appliance.bundle.names import JSON_TEXT, SAFETENSORS, TEXT, TOML
from appliance.errors import ContentRefused
from appliance.training.safetensors import PREFIX, header_bytes, read_header

MAX_TOML_BYTES = 1 << 20
MAX_JSON_BYTES = 16 << 20

# C0 without tab and line feed, DEL, C1; the bidirectional marks, embeddings, overrides and isolates.
_REFUSED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Checker(Protocol):
    """Judges one member's bytes as they stream past."""

    def feed(self, data: memoryview) -> None:
        """Take the next bytes; raise ContentRefused as soon as they cannot be allowed."""

    def finish(self) -> None:
        """Judge the whole; raise ContentRefused."""


class TextChecker:
    """UTF-8 without control or bidirectional characters; lines end in a line feed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line = 1

    def feed(self, data: memoryview) -> None:
        """Take the next bytes."""
        self._judge(bytes(data), last=False)

    def finish(self) -> None:
        """Refuse a text that ends within a character."""
        self._judge(b"", last=True)

    def _judge(self, data: bytes, *, last: bool) -> None:
        try:
            text = self._decoder.decode(data, last)
        except UnicodeDecodeError as error:
            raise ContentRefused(
                f"{self._name}: expected UTF-8 text, found other bytes near line {self._line}; convert the"
                " file"
            ) from error
        bad = _REFUSED.search(text)
        if bad:
            line = self._line + text.count("\n", 0, bad.start())
            raise ContentRefused(
                f"{self._name}: expected text without control or bidirectional characters, found"
                f" U+{ord(bad[0]):04X} in line {line}; remove it (a carriage return: save with Unix line"
                " ends)"
            )
        self._line += text.count("\n")


class _WholeText:
    """A small text that is parsed when it is complete."""

    max_bytes: int
    language: str

    def __init__(self, name: str) -> None:
        self._name = name
        self._text = TextChecker(name)
        self._data = bytearray()

    def feed(self, data: memoryview) -> None:
        """Take the next bytes."""
        if len(self._data) + len(data) > self.max_bytes:
            raise ContentRefused(
                f"{self._name}: expected at most {self.max_bytes} bytes of {self.language}, found more"
            )
        self._text.feed(data)
        self._data += data

    def finish(self) -> None:
        """Parse the whole."""
        self._text.finish()
        try:
            self._parse(self._data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ContentRefused(
                f"{self._name}: expected {self.language}, found text that does not parse"
            ) from error

    def _parse(self, text: str) -> None:
        raise NotImplementedError


class TomlChecker(_WholeText):
    """One TOML document."""

    max_bytes = MAX_TOML_BYTES
    language = "TOML"

    def _parse(self, text: str) -> None:
        tomllib.loads(text)


class JsonChecker(_WholeText):
    """One JSON value without duplicate keys."""

    max_bytes = MAX_JSON_BYTES
    language = "JSON"

    def _parse(self, text: str) -> None:
        json.loads(text, object_pairs_hook=_unique)


class SafetensorsChecker:
    """A safetensors file whose header is bounded and describes exactly the bytes that follow it."""

    def __init__(self, name: str, size: int, judge: Callable[[bytearray, int], object] = read_header) -> None:
        """Begin a file of `size` bytes; `judge` takes the header, prefix included, and the size."""
        self._name = name
        self._size = size
        self._judge = judge
        self._head = bytearray()
        self._wanted = PREFIX.size
        self._checked = False

    def feed(self, data: memoryview) -> None:
        """Collect the header, check it once, let the tensors pass."""
        while not self._checked and data:
            room = self._wanted - len(self._head)
            self._head += data[:room]
            data = data[room:]
            if len(self._head) == self._wanted:
                self._advance()

    def finish(self) -> None:
        """Refuse a file that ends within its header."""
        if not self._checked:
            raise ContentRefused(
                f"{self._name}: expected a safetensors header, found the file's end before it"
            )

    def _advance(self) -> None:
        if self._wanted == PREFIX.size:
            self._wanted += header_bytes(self._head)
            return
        self._judge(self._head, self._size)
        self._checked = True


def checker_for(media_type: str, name: str, size: int) -> Checker:
    """Return the checker for a member of `size` bytes; raise ContentRefused for an unknown media type."""
    if media_type == TEXT:
        return TextChecker(name)
    if media_type == TOML:
        return TomlChecker(name)
    if media_type == JSON_TEXT:
        return JsonChecker(name)
    if media_type == SAFETENSORS:
        return SafetensorsChecker(name, size)
    raise ContentRefused(f"{name}: expected text, TOML, JSON or safetensors, found {media_type!r:.80}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found
