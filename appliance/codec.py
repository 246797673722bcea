"""Frozen dataclasses as JSON objects and back, by their annotations.

Guarantees whoever reads one that each field has exactly its declared type, nothing is missing or added; and
whoever writes one the same. Each annotation becomes a pair of converters, resolved once per class; where a
value stands is worked out only if it is not what its annotation says.

Field types: int, float (finite), str, bool, bytes (base64), Literal["a", "b"], tuple[T, ...], X | None,
another such dataclass, and Mapping[str, JSON]. Annotations are evaluated, so a module that defines messages
does without `from __future__ import annotations`.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from appliance.errors import ProtocolError

_Convert: TypeAlias = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Codec:
    dump: _Convert
    load: _Convert


class _Unfit(Exception):
    """A value is not what its annotation says; `where` it stands is put together from the inside out."""

    def __init__(self, before: str, after: str) -> None:
        super().__init__()
        self.before, self.where, self.after = before, "", after

    @classmethod
    def type(cls, expected: Any, found: Any) -> _Unfit:
        return cls(f"expected {expected} in ", f", found {type(found).__name__}")


def dump(message: Any) -> dict[str, Any]:
    """Return a message's fields as JSON values; raises ProtocolError for one of another type."""
    cls = type(message)
    with _told_of(cls):
        return _dump(message, cls)


def load(value: dict[str, Any], cls: type[Any]) -> Any:
    """Make a message of its fields' JSON values; raises ProtocolError."""
    with _told_of(cls):
        return _load(value, cls)


@functools.cache
def _fields(cls: type[Any]) -> Mapping[str, _Codec]:
    if not dataclasses.is_dataclass(cls):
        raise ProtocolError(f"expected a dataclass as a message, found {cls!r}")
    annotations = {field.name: field.type for field in dataclasses.fields(cls)}
    for name, annotation in annotations.items():
        if isinstance(annotation, str):
            raise ProtocolError(
                f"expected {cls!r}.{name} to hold a type: drop `from __future__ import annotations`"
            )
    return {name: _codec(annotation) for name, annotation in annotations.items()}


def _dump(message: Any, cls: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, codec in _fields(cls).items():  # type: ignore[arg-type]  # every class is hashable
        try:
            found[name] = codec.dump(getattr(message, name))
        except _Unfit as unfit:
            unfit.where = f".{name}{unfit.where}"
            raise
    return found


def _load(value: dict[str, Any], cls: type[Any]) -> Any:
    fields = _fields(cls)  # type: ignore[arg-type]  # every class is hashable
    if value.keys() != fields.keys():
        odd = sorted(value.keys() ^ fields.keys())
        raise _Unfit("expected in ", f" exactly the fields {list(fields)}, missing or unknown: {odd!r:.200}")
    found: dict[str, Any] = {}
    for name, codec in fields.items():
        try:
            found[name] = codec.load(value[name])
        except _Unfit as unfit:
            unfit.where = f".{name}{unfit.where}"
            raise
    return cls(**found)


@contextlib.contextmanager
def _told_of(cls: type[Any]) -> Iterator[None]:
    try:
        yield
    except _Unfit as unfit:
        raise ProtocolError(f"{unfit.before}{cls.__name__}{unfit.where}{unfit.after}") from unfit


def _codec(annotation: Any) -> _Codec:
    """Make the converters of one annotation."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (_codec(item) for item in typing.get_args(annotation) if item is not type(None))
        return _Codec(_optional(inner.dump), _optional(inner.load))
    if origin is tuple:
        item = _codec(typing.get_args(annotation)[0])
        return _Codec(_items(item.dump, tuple, list), _items(item.load, list, tuple))
    if origin is Literal:
        names = typing.get_args(annotation)
        return _same(lambda value: type(value) is str and value in names, annotation)
    if origin is Mapping or annotation is Mapping:
        return _Codec(_mapping, _mapping)
    if annotation is bytes:
        return _Codec(_dump_bytes, _load_bytes)
    if annotation is float:
        return _Codec(_number, _number)
    if annotation in (int, str, bool):  # a bool is no int here
        return _same(lambda value: type(value) is annotation, annotation.__name__)
    return _Codec(_nested_dump(annotation), _nested_load(annotation))


def _same(fits: Callable[[Any], bool], expected: Any) -> _Codec:
    def convert(value: Any) -> Any:
        if not fits(value):
            raise _Unfit.type(expected, value)
        return value

    return _Codec(convert, convert)


def _optional(inner: _Convert) -> _Convert:
    return lambda value: None if value is None else inner(value)


def _items(inner: _Convert, source: type[Any], result: type[Any]) -> _Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, source):
            raise _Unfit.type("a list", value)
        found = []
        for number, item in enumerate(value):
            try:
                found.append(inner(item))
            except _Unfit as unfit:
                unfit.where = f"[{number}]{unfit.where}"
                raise
        return result(found)

    return convert


def _nested_dump(cls: type[Any]) -> _Convert:
    def convert(value: Any) -> Any:
        if type(value) is not cls:
            raise _Unfit.type(cls.__name__, value)
        return _dump(value, cls)

    return convert


def _nested_load(cls: type[Any]) -> _Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _Unfit.type("an object", value)
        return _load(value, cls)

    return convert


def _mapping(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _Unfit.type("an object", value)
    return dict(value)


def _number(value: Any) -> float:
    if type(value) not in (float, int):
        raise _Unfit.type("a number", value)
    return float(value)


def _dump_bytes(value: Any) -> str:
    if not isinstance(value, bytes | bytearray):
        raise _Unfit.type("bytes", value)
    return base64.b64encode(value).decode("ascii")


def _load_bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _Unfit.type("base64", value)
    try:
        data = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise _Unfit.type("base64", value) from error
    if base64.b64encode(data) != value.encode("ascii"):
        raise _Unfit.type("canonical base64", data)
    return data
