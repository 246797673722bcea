"""What a request says of people, things and the appliance, as entities that Cedar can judge by.

Guarantees to the engine that every named entity came with its facts, under a name that cannot be taken for
another, and that they fit the schema; whatever does not is `Refused`, with its reason code. Parsed entities
are kept, because the same people and objects come again and again: a kept pair saves half of the time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from json import JSONEncoder
from operator import itemgetter
from typing import Final

import cedarpy

from policy.errors import Refused
from policy.model import WORLD_FACTS, Entity, Request

MAX_FACTS_BYTES: Final = 65536
MAX_ENTITIES: Final = 64
MAX_HANDLES: Final = 2048  # of up to 14 kB each
MAX_WORLDS: Final = 16

_NAME: Final = re.compile(r"[ -~]{1,256}")
_WORLD: Final = frozenset(WORLD_FACTS)
_of_the_world: Final = itemgetter(*WORLD_FACTS)


def _listed(value: object) -> object:
    """Show JSON what a set or a read-only mapping holds."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no fact is a {type(value).__name__}")


_encode = JSONEncoder(separators=(",", ":"), allow_nan=False, default=_listed).encode


class Facts:
    """Entities by what is said of them, checked against one schema."""

    def __init__(self, schema: cedarpy.Schema) -> None:
        self._schema = schema
        self._both = lru_cache(maxsize=MAX_HANDLES)(self._checked)
        self._alone = lru_cache(maxsize=MAX_WORLDS)(self._parsed)

    def entities(self, request: Request) -> cedarpy.Entities:
        """Return all that the request names, and the world; raises Refused."""
        try:
            world = _world(*_of_the_world(request.context))
        except (KeyError, TypeError) as missing:
            raise Refused("facts-refused") from missing
        return self._both(world, f"[{_said(request.principal)},{_said(request.resource)}]")

    def _checked(self, world: str, named: str) -> cedarpy.Entities:
        """Parse what is named; Cedar refuses two of one name with different facts."""
        try:
            return self._alone(world).with_added_json_str(named, self._schema)
        except ValueError as error:
            raise Refused("facts-refused") from error

    def _parsed(self, world: str) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(f"[{world}]", self._schema)


def context_of(request: Request) -> str:
    """Return what the request states beside the world, as JSON; raises Refused."""
    more = {name: value for name, value in request.context.items() if name not in _WORLD}
    return encoded(more) if more else "{}"


def encoded(value: object) -> str:
    """Encode facts as JSON, bounded; raises Refused for what JSON cannot say. Cedar refuses floats."""
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused("facts-refused") from error
    # {"__entity": …} as a value would become a reference to an entity that nobody supplied facts for.
    if len(text) > MAX_FACTS_BYTES or '"__' in text:
        raise Refused("facts-refused")
    return text


@lru_cache(maxsize=MAX_WORLDS, typed=True)  # typed, or 0 would be served what was said of False
def _world(*values: object) -> str:
    """Return what is stated about the appliance, in the order of WORLD_FACTS, in Cedar's JSON."""
    attrs = dict(zip(WORLD_FACTS, values, strict=True))
    return encoded({"uid": {"type": "World", "id": "now"}, "attrs": attrs, "parents": ()})


def _said(entity: Entity) -> str:
    """Return an entity and all above it, each once, in Cedar's JSON."""
    if not entity.parents:
        return _in_cedar(entity)
    named = [entity]
    for each in named:  # grows while it is walked: parents come with their own facts
        named.extend(parent for parent in each.parents if parent not in named)
        if len(named) > MAX_ENTITIES:
            raise Refused("facts-refused")
    return ",".join(map(_in_cedar, named))


def _in_cedar(entity: Entity) -> str:
    name = entity.id
    if not entity.known:
        raise Refused(f"entity-missing:{entity.type}")
    if not (isinstance(name, str) and _NAME.fullmatch(name)):  # or it could be taken for another
        raise Refused("name-refused")
    if "id" in entity.attrs:
        raise Refused("facts-refused")
    above = [{"type": parent.type, "id": parent.id} for parent in entity.parents] if entity.parents else ()
    uid = {"type": entity.type, "id": name}
    return encoded({"uid": uid, "attrs": {**entity.attrs, "id": name}, "parents": above})
