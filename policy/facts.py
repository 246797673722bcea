"""What a request says of people, things and the appliance, as entities that Cedar can judge by.

Guarantees to the engine that every named entity came with its facts, under a name that cannot be taken for
another, and that they fit the schema; whatever does not is `Refused`, with its reason code. Parsed entities
are kept, because the same people and objects come again and again: a kept pair saves half of the time.
"""

from __future__ import annotations

import marshal
import re
from collections.abc import Mapping
from functools import lru_cache
from json import JSONEncoder
from operator import itemgetter
from typing import Any, Final

import cedarpy

from policy.errors import Refused
from policy.model import WORLD_FACTS, Entity, Request

MAX_FACTS_BYTES: Final = 65536
MAX_ENTITIES: Final = 64
MAX_HANDLES: Final = 2048  # of up to 14 kB each
MAX_WORLDS: Final = 16
MAX_PEOPLE: Final = 128

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
        self._kept: dict[tuple[str, bytes], cedarpy.Entities] = {}
        self._alone = lru_cache(maxsize=MAX_WORLDS)(self._parsed)
        self._person = lru_cache(maxsize=MAX_PEOPLE)(self._with)

    def entities(self, world: str, request: Request) -> cedarpy.Entities:
        """Return all that the request names, and the world; raises Refused."""
        principal, resource = request.principal, request.resource
        key = (world, _exactly(principal, resource))
        found = self._kept.get(key)
        if found is None:
            found = self._checked(world, principal, resource)
            if key[1]:
                if len(self._kept) >= MAX_HANDLES:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = found
        return found

    def _checked(self, world: str, principal: Entity, resource: Entity) -> cedarpy.Entities:
        """Parse what is named; Cedar refuses two of one name with different facts.

        People ask again and again for other things: with theirs kept, only what they ask for is parsed.
        """
        asking, asked_for = _said(principal), _said(resource)
        try:
            if principal.type == "Person":
                return self._person(world, asking).with_added_json_str(f"[{asked_for}]", self._schema)
            return self._with(world, f"{asking},{asked_for}")
        except ValueError as error:
            raise Refused("facts-refused") from error

    def _with(self, world: str, named: str) -> cedarpy.Entities:
        return self._alone(world).with_added_json_str(f"[{named}]", self._schema)

    def _parsed(self, world: str) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(f"[{world}]", self._schema)


def world_of(request: Request) -> str:
    """Return what is stated about the appliance, in Cedar's JSON; raises Refused."""
    try:
        return _world(*_of_the_world(request.context))
    except (KeyError, TypeError) as missing:
        raise Refused("facts-refused") from missing


def _exactly(principal: Entity, resource: Entity) -> bytes:
    """Return bytes that only exactly these two entities have, or none: what has parents is parsed anew.

    `marshal`'s second version tells types apart (0 and False too), and writes no references: 1 µs, where
    writing JSON takes 8. What it cannot write, and what would be refused, is not kept.
    """
    if principal.parents or resource.parents or not (principal.known and resource.known):
        return b""
    said: Any = (principal.type, principal.id, principal.attrs, resource.type, resource.id, resource.attrs)
    try:
        return marshal.dumps(said, 2)
    except ValueError:
        return b""


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
