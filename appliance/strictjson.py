"""JSON from a neighbour that is not trusted, parsed without surprises.

Guarantees, to every reader of a socket here: input is bounded in size before it is parsed and in depth after;
duplicate names, NaN, Infinity, integers outside 64 bits and lone surrogates are refused, so that two readers
never understand one text differently. Every failure is a ProtocolError.

Source: RFC 8259, with the restrictions of RFC 7493 (I-JSON) on names, numbers and text.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Never, TypeAlias

from appliance.errors import ProtocolError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

MAX_DEPTH = 16
MIN_INT, MAX_INT = -(2**63), 2**63 - 1


def parse_json(data: bytes, *, limit: int) -> Any:
    """Parse one JSON value of at most `limit` bytes. Raises ProtocolError."""
    if len(data) > limit:
        raise ProtocolError(f"expected at most {limit} bytes of JSON, found {len(data)}: send less at once")
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: bad UTF-8, bad JSON, integers of 4300 digits
        raise ProtocolError(f"expected one strict JSON value, found none: {error}") from error
    check_json(value)
    return value


def encode_json(value: Any) -> bytes:
    """Write a value that `parse_json` will accept, compact and ASCII. Raises ProtocolError."""
    check_json(value)
    return _ENCODER.encode(value).encode("ascii")


def check_json(value: Any, depth: int = MAX_DEPTH) -> None:
    """Refuse what JSON, or a reader with 64-bit integers, cannot carry. Raises ProtocolError."""
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, int):
        if not MIN_INT <= value <= MAX_INT:
            raise ProtocolError(f"expected an integer of 64 bits, found one of {value.bit_length()}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ProtocolError(f"expected a finite number, found {value}")
    elif not isinstance(value, list | tuple | dict):
        raise ProtocolError(f"expected a JSON value, found {type(value).__name__}")
    elif depth == 0:
        raise ProtocolError(
            f"expected at most {MAX_DEPTH} levels of nesting, found more: flatten the message"
        )
    else:
        _check_container(value, depth - 1)


def check_text(value: Any) -> None:
    """Refuse names and strings that have no UTF-8 form. Raises ProtocolError."""
    if not isinstance(value, str):
        raise ProtocolError(f"expected a string as a name, found {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ProtocolError("expected Unicode text, found a lone surrogate") from error


def _check_container(value: list[Any] | tuple[Any, ...] | dict[Any, Any], depth: int) -> None:
    if isinstance(value, dict):
        for name in value:
            check_text(name)
    for item in value.values() if isinstance(value, dict) else value:
        check_json(item, depth)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return result


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
