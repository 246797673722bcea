"""What is asked and what is answered: plain values, with no rule and no engine in them.

A `Request` states everything a decision may depend on, so that a logged one can be judged again later. Values
are what the log can hold too: bool, int, str, and lists, sets and string-keyed mappings of these. No floats.

Words follow Cedar's (a principal asks for an action on a resource, in a context); the entity types, their
attributes and the actions are those of `schema.cedarschema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

WORLD_FACTS: Final = (
    *("profile", "sealed", "isolated", "custody", "log_custody", "since_boot_s"),
    *("witnesses", "witnessed_once", "break_glass"),
)
"""What every context states about the appliance and seldom changes; rules read it as `World::"now"`."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A principal or resource with the facts about it, e.g. Entity("Person", "ada", {"roles": ["operator"]}).

    `id` is given to the rules as the attribute `id` too, so `attrs` must not hold one. `parents` are entities
    with their own facts. `known=False` says that the name was asked for and nothing is known by it: denied.
    """

    type: str
    id: str
    attrs: Mapping[str, object]
    parents: tuple[Entity, ...] = ()
    known: bool = True


@dataclass(frozen=True, slots=True)
class Request:
    """One question: whether `principal` may do `action` to `resource`, given `context`.

    `context` must state `profile`, `sealed` and `isolated` for every action; the schema lists the rest.
    """

    principal: Entity
    action: str
    resource: Entity
    context: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and what is needed to check it.

    `policies` are the `@id`s of the rules that decided, sorted; `policy_set` the digest of rules and schema
    (64 hex digits, see `Engine.digest`); `reasons` is empty for an allow, else one stable code or more.
    """

    allow: bool
    policies: tuple[str, ...]
    policy_set: str
    reasons: tuple[str, ...]
