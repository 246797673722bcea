"""A varlink interface definition: what it says, and whether a value is what it says.

Guarantees, to the front: `check_struct` lets a value through only if it has exactly the declared fields, each
of the declared type. Fields that may be absent are those marked `?`; a bool is no int, 1.0 is no int, 1 is a
float; nothing is converted. Everything here is pure.

A method whose comment begins with the word "more" answers with a stream.

Source: https://varlink.org/Interface-Definition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Never, TypeAlias

from appliance.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEFINITION = 64 * 1024


@dataclass(frozen=True, slots=True)
class Scalar:
    """One of bool, int, float, string, object."""

    name: str


@dataclass(frozen=True, slots=True)
class Maybe:
    """A value that may be null or absent."""

    inner: Type


@dataclass(frozen=True, slots=True)
class Array:
    """A list of one type."""

    inner: Type


@dataclass(frozen=True, slots=True)
class Dictionary:
    """An object with free names and values of one type."""

    inner: Type


@dataclass(frozen=True, slots=True)
class Enum:
    """One of a few names."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Struct:
    """An object with declared fields."""

    fields: Mapping[str, Type]


@dataclass(frozen=True, slots=True)
class Named:
    """A type that the interface defines by name."""

    name: str


Type: TypeAlias = Scalar | Maybe | Array | Dictionary | Enum | Struct | Named


@dataclass(frozen=True, slots=True)
class Method:
    """A method; `streams` where it must be called with more."""

    parameters: Struct
    reply: Struct
    streams: bool


@dataclass(frozen=True, slots=True)
class Interface:
    """A parsed definition; `text` is the source, as GetInterfaceDescription hands it out."""

    name: str
    text: str
    types: Mapping[str, Struct | Enum]
    methods: Mapping[str, Method]
    errors: Mapping[str, Struct]


class InvalidValue(ProtocolError):
    """A value is not what the interface declares; `parameter` is the path of the field at fault."""

    def __init__(self, parameter: str, expected: str, found: Any) -> None:
        super().__init__(f"expected {expected} in {parameter}, found {type(found).__name__}")
        self.parameter = parameter


def check_struct(interface: Interface, struct: Struct, value: Any, where: str = "") -> None:
    """Check an object against a declaration. Raises InvalidValue."""
    if not isinstance(value, dict):
        raise InvalidValue(where or "parameters", "an object", value)
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in struct.fields:
            raise InvalidValue(f"{prefix}{name:.80}", "no such field", value[name])
    for name, kind in struct.fields.items():
        _check(interface, kind, value.get(name), prefix + name)


def _check(interface: Interface, kind: Type, value: Any, where: str) -> None:  # noqa: C901  one case per type
    match kind:
        case Maybe(inner):
            if value is not None:
                _check(interface, inner, value, where)
        case Named(name):
            _check(interface, interface.types[name], value, where)
        case Struct():
            check_struct(interface, kind, value, where)
        case Enum(names):
            _expect(isinstance(value, str) and value in names, where, f"one of {', '.join(names)}", value)
        case Array(inner):
            _expect(isinstance(value, list), where, "a list", value)
            for index, item in enumerate(value):
                _check(interface, inner, item, f"{where}[{index}]")
        case Dictionary(inner):
            _expect(isinstance(value, dict), where, "an object", value)
            for item in value.values():  # its keys are the client's: they stay out of messages
                _check(interface, inner, item, f"{where}[]")
        case Scalar(name):
            _expect(_is_scalar(name, value), where, f"{name}", value)


def _is_scalar(name: str, value: Any) -> bool:
    allowed: dict[str, tuple[type, ...]] = {
        "bool": (bool,),
        "int": (int,),
        "float": (float, int),
        "string": (str,),
        "object": (dict,),
    }
    return type(value) in allowed[name]  # not isinstance: True is an int to Python


def _expect(good: bool, where: str, expected: str, found: Any) -> None:  # noqa: FBT001  an assertion that raises
    if not good:
        raise InvalidValue(where, expected, found)


# The parser: a recursive descent over tokens. Comments are tokens, as one may mark a method as streaming.

_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<comment>#[^\n]*)|(?P<mark>->|\[\]|\[string\]|[():,?])"
    r"|(?P<word>[A-Za-z](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
)
_STREAMS = re.compile(r"more\b")
_INTERFACE = re.compile(r"[a-z](?:-*[a-z0-9])*(?:\.[a-z0-9](?:-*[a-z0-9])*)+")
_MEMBER = re.compile(r"[A-Z][A-Za-z0-9]*")
_FIELD = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9])*")
_SCALARS = frozenset({"bool", "int", "float", "string", "object"})


def parse_interface(text: str) -> Interface:
    """Parse an interface definition. Raises ProtocolError that names the line."""
    return _Parser(text).interface()


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_DEFINITION:
            raise ProtocolError(f"expected a definition of at most {MAX_DEFINITION} characters, found more")
        self._text = text
        self._at = 0
        self._comments: list[str] = []
        self._mentioned: set[str] = set()
        self._next = ""
        self._advance()

    def interface(self) -> Interface:
        self._take("interface")
        name = self._word(_INTERFACE, "an interface name")
        types: dict[str, Struct | Enum] = {}
        methods: dict[str, Method] = {}
        errors: dict[str, Struct] = {}
        while self._next:
            streams = any(_STREAMS.match(line) for line in self._comments)
            keyword = self._next
            self._advance()
            member = self._word(_MEMBER, "a member name")
            if member in types.keys() | methods.keys() | errors.keys():
                self._fail("each member once", member)
            if keyword == "type":
                types[member] = self._struct_or_enum()
            elif keyword == "method":
                parameters = self._struct()
                self._take("->")
                methods[member] = Method(parameters, self._struct(), streams)
            elif keyword == "error":
                errors[member] = self._struct()
            else:
                self._fail("type, method or error", keyword)
        if undefined := sorted(self._mentioned - types.keys()):
            self._fail("each named type to be defined", ", ".join(undefined))
        return Interface(name, self._text, types, methods, errors)

    def _type(self) -> Type:
        for mark, wrapper in (("?", Maybe), ("[]", Array), ("[string]", Dictionary)):
            if self._next == mark:
                self._advance()
                return wrapper(self._type())
        if self._next == "(":
            return self._struct_or_enum()
        if self._next in _SCALARS:
            scalar = Scalar(self._next)
            self._advance()
            return scalar
        name = self._word(_MEMBER, "a type")
        self._mentioned.add(name)
        return Named(name)

    def _struct(self) -> Struct:
        found = self._struct_or_enum()
        if not isinstance(found, Struct):
            self._fail("fields with types", "an enumeration")
        return found

    def _struct_or_enum(self) -> Struct | Enum:
        self._take("(")
        fields: dict[str, Type] = {}
        names: list[str] = []
        while self._next != ")":
            if fields or names:
                self._take(",")
            name = self._word(_FIELD, "a field name")
            if name in fields or name in names:
                self._fail("each field once", name)
            if self._next == ":":
                self._advance()
                fields[name] = self._type()
            else:
                names.append(name)
        self._advance()
        if fields and names:
            self._fail("a type for each field, or for none", names[0])
        return Enum(tuple(names)) if names else Struct(fields)

    def _word(self, pattern: re.Pattern[str], expected: str) -> str:
        word = self._next
        if not pattern.fullmatch(word):
            self._fail(expected, word or "the end")
        self._advance()
        return word

    def _take(self, token: str) -> None:
        if self._next != token:
            self._fail(token, self._next or "the end")
        self._advance()

    def _advance(self) -> None:
        """Move to the next token, "" at the end, and keep the comments that stand before it."""
        self._comments = []
        self._next = ""
        while not self._next and self._at < len(self._text):
            found = _TOKEN.match(self._text, self._at)
            if found is None:
                self._fail("a token", self._text[self._at])
            self._at = found.end()
            if found.lastgroup == "comment":
                self._comments.append(found.group().lstrip("#").strip())
            elif found.lastgroup != "space":
                self._next = found.group()

    def _fail(self, expected: str, found: str) -> Never:
        line = self._text.count("\n", 0, self._at) + 1
        raise ProtocolError(
            f"expected {expected} in line {line} of the interface definition, found {found!r:.80}"
        )
