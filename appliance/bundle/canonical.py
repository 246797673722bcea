"""Canonical JSON: one value has exactly one encoding, so a signature covers a meaning and not a spelling.

Guarantees to whoever verifies a signature and then parses the same bytes: what is parsed is ASCII, has
sorted and unique keys, no white space, no floats and no nulls, stays within the size and depth given here,
and encodes back to the same bytes.

Source: docs/formats/transfer-bundle.md, section Manifest. `Fields` is the strict way to take such an
object apart: each field is asked for once with its type, and one that nobody asked for is refused.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypeAlias

from appliance.errors import ContentRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | bool"

MAX_BYTES = 1 << 20
MAX_DEPTH = 12
# Larger integers do not survive readers that hold numbers as IEEE doubles.
MAX_INT = (1 << 53) - 1


def encode(value: JSON) -> bytes:
    """Encode a value in its one form; raise ContentRefused where it has none."""
    _check(value, MAX_DEPTH)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def parse(data: bytes, what: str, max_bytes: int = MAX_BYTES) -> JSON:
    """Parse canonical bytes; raise ContentRefused, naming `what`, for any other spelling."""
    if len(data) > max_bytes:
        raise ContentRefused(f"{what}: expected at most {max_bytes} bytes, found {len(data)}")
    try:
        value: JSON = json.loads(data.decode("ascii"))
        again = encode(value)
    except (ValueError, RecursionError) as error:
        raise ContentRefused(
            f"{what}: expected canonical JSON, found bytes that do not parse: {error}"
        ) from error
    if again != data:
        raise ContentRefused(
            f"{what}: expected canonical JSON (sorted unique keys, no spaces), found {len(data)} bytes that"
            f" encode again to {len(again)} different ones; make the bundle again"
        )
    return value


def _check(value: object, depth: int) -> None:
    if depth == 0:
        raise ContentRefused(f"expected canonical JSON at most {MAX_DEPTH} levels deep, found a deeper value")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, int):
        if abs(value) > MAX_INT:
            raise ContentRefused(
                f"expected a whole number of at most 53 bits, found one of {value.bit_length()}"
            )
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ContentRefused(f"expected text as a JSON key, found {type(key).__name__}")
            _check_text(key)
            _check(item, depth - 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth - 1)
    else:
        raise ContentRefused(
            "expected only objects, arrays, text, whole numbers and booleans in canonical JSON,"
            f" found {type(value).__name__}"
        )


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ContentRefused("expected text in canonical JSON, found half of a surrogate pair") from error


class Fields:
    """The fields of one JSON object, each taken exactly once; `done` refuses what is left over."""

    def __init__(self, value: JSON, what: str) -> None:
        if not isinstance(value, dict):
            raise ContentRefused(f"{what}: expected an object, found {type(value).__name__}")
        self._left: dict[str, JSON] = dict(value)
        self._what = what

    def take(self, name: str) -> JSON:
        """Return the field of this name; raise ContentRefused if it is absent."""
        if name not in self._left:
            raise ContentRefused(f"{self._what}: expected the field {name}, found none")
        return self._left.pop(name)

    def text(self, name: str, max_chars: int = 256) -> str:
        """Return a text field."""
        value = self.take(name)
        if not isinstance(value, str) or len(value) > max_chars:
            raise ContentRefused(f"{self._what}: expected {name} as text of at most {max_chars} characters")
        return value

    def match(self, name: str, pattern: re.Pattern[str]) -> str:
        """Return a text field that matches the pattern from end to end."""
        value = self.take(name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ContentRefused(
                f"{self._what}: expected {name} to match {pattern.pattern}, found {value!r:.80}"
            )
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """Return a text field that is one of the allowed words."""
        value = self.take(name)
        if not isinstance(value, str) or value not in allowed:
            raise ContentRefused(
                f"{self._what}: expected {name} as one of {', '.join(allowed)}, found {value!r:.80}"
            )
        return value

    def number(self, name: str, least: int = 0, most: int = MAX_INT) -> int:
        """Return a whole number within the range."""
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ContentRefused(
                f"{self._what}: expected {name} as a whole number from {least} to {most}, found {value!r:.80}"
            )
        return value

    def constant(self, name: str, expected: JSON) -> None:
        """Check that a field has the one value allowed, of the same type."""
        value = self.take(name)
        if value != expected or type(value) is not type(expected):
            raise ContentRefused(f"{self._what}: expected {name} to be {expected!r}, found {value!r:.80}")

    def array(self, name: str, most: int) -> Sequence[JSON]:
        """Return an array of at most this many items."""
        value = self.take(name)
        if not isinstance(value, list) or len(value) > most:
            raise ContentRefused(f"{self._what}: expected {name} as an array of at most {most} items")
        return value

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """Return an array of texts, each at most 4096 characters long."""
        values = self.array(name, most)
        found = tuple(value for value in values if isinstance(value, str) and len(value) <= 4096)
        if len(found) != len(values):
            raise ContentRefused(f"{self._what}: expected {name} to hold text only")
        return found

    def done(self) -> None:
        """Refuse any field that was not asked for."""
        if self._left:
            raise ContentRefused(
                f"{self._what}: expected no other fields, found {', '.join(sorted(self._left))}"
            )
