"""Cedar behind one function: `Engine.decide` answers every request, and nothing that fails is ever an allow.

A decision is an allow only when all of these hold, which is more than Cedar itself asks for:

1. every entity that the request names came with its facts (Cedar lets a rule that reads none allow a stranger);
2. facts, action and entities conform to the schema, which Cedar checks on each request only when it is given one
   (what does not conform is Cedar's third answer, NoDecision);
3. Cedar's answer is Allow and no rule failed to evaluate (a `forbid` that errs is skipped by Cedar);
4. the independent list of `policy.oracle` finds no promise broken.

Anything else is a denial with a reason code: the part before the colon is from a fixed list in docs/policy.md.
Source of the language's meaning: Cedar 4, "Authorization" (default deny, forbid overrides permit, skip on error).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from json import JSONEncoder
from typing import Final

import cedarpy

from policy import oracle
from policy.model import Decision, Entity, Request
from policy.rules import load

MAX_ID_CHARS: Final = 256
MAX_FACTS_BYTES: Final = 65536
MAX_DEPTH: Final = 8

_encode = JSONEncoder(separators=(",", ":"), allow_nan=False).encode

# Cedar says in words only why it gave no decision. A text not listed is still a denial, as engine-error.
_NO_DECISION: Final = (
    ("failed to parse entities", "facts-refused"),
    ("does not exist in the supplied schema", "unknown-action"),
    ("context", "context-refused"),
    ("is not valid for", "not-applicable"),
    ("is not declared in the schema", "not-applicable"),
)


class _Refused(Exception):
    """Carries the reason code of a request that is not put to Cedar at all."""


class Engine:
    """One set of rules with its schema, parsed and validated once; then `decide` as often as needed.

    `rules` maps a file name such as "default.cedar" to its text. Raises PolicyInvalid, naming file and rule, when
    the set is empty, does not parse, or does not fit the schema; then there is no engine to ask.
    """

    __slots__ = ("_policies", "_schema", "digest")

    def __init__(self, rules: Mapping[str, str], schema: str) -> None:
        loaded = load(rules, schema)
        self._policies = loaded.policies
        self._schema = loaded.schema
        self.digest: Final = loaded.digest

    def decide(self, request: Request) -> Decision:
        """Judge one request. Never raises for anything in the request or in Cedar: that is a denial."""
        try:
            return self._judge(request)
        except _Refused as refused:
            return self._denied((), (str(refused),))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001  a panic in Cedar is no Exception, and must deny as well
            return self._denied((), ("engine-error",))

    def _judge(self, request: Request) -> Decision:
        entities = _encode(list(_facts(request)))
        if len(entities) > MAX_FACTS_BYTES:
            raise _Refused("facts-refused")
        broken = oracle.broken_invariants(request)
        answer = cedarpy.is_authorized(
            {
                "principal": {"type": request.principal.type, "id": request.principal.id},
                "action": {"type": "Action", "id": request.action},
                "resource": {"type": request.resource.type, "id": request.resource.id},
                "context": _encode(_plain(request.context, 0)),
            },
            self._policies,
            entities,
            self._schema,
        )
        if answer.decision is cedarpy.Decision.NoDecision:
            return self._denied((), (*broken, _why_no_decision(answer.diagnostics.errors)))
        ids = answer.diagnostics.id_annotations_by_reason
        deciding = tuple(sorted(ids[reason] for reason in answer.diagnostics.reasons))
        failed = answer.diagnostics.errors
        if answer.decision is cedarpy.Decision.Allow and deciding and not failed and not broken:
            return Decision(allow=True, policies=deciding, policy_set=self.digest, reasons=())
        return self._denied(deciding, (*_why_denied(answer, deciding), *broken))

    def _denied(self, policies: tuple[str, ...], reasons: tuple[str, ...]) -> Decision:
        return Decision(allow=False, policies=policies, policy_set=self.digest, reasons=reasons)


def shipped() -> tuple[Mapping[str, str], str]:
    """Return the rules and the schema that come with this package: `Engine(*shipped())`."""
    here = resources.files("policy")
    default, schema = here / "default.cedar", here / "schema.cedarschema"
    return {"default.cedar": default.read_text("utf-8")}, schema.read_text("utf-8")


def _why_no_decision(errors: list[str]) -> str:
    text = " ".join(errors)
    return next((reason for words, reason in _NO_DECISION if words in text), "engine-error")


def _why_denied(answer: cedarpy.AuthzResult, deciding: tuple[str, ...]) -> tuple[str, ...]:
    if answer.diagnostics.errors:
        return ("engine-error",)
    if answer.decision is cedarpy.Decision.Allow:
        return ()
    return tuple(f"forbidden-by:{name}" for name in deciding) or ("no-rule-permits",)


def _facts(request: Request) -> Iterator[dict[str, object]]:
    """Yield each named entity once, as Cedar's JSON. Two entities of one name with different facts deny later."""
    seen: list[Entity] = []
    waiting = [(request.principal, 0), (request.resource, 0)]
    for entity, depth in waiting:
        if entity in seen:
            continue
        seen.append(entity)
        _check_name(entity)
        if depth > MAX_DEPTH:
            raise _Refused("facts-refused")
        waiting.extend((parent, depth + 1) for parent in entity.parents)
        attrs = _plain(entity.attrs, 0)
        if not isinstance(attrs, dict) or "id" in attrs:
            raise _Refused("facts-refused")
        yield {
            "uid": {"type": entity.type, "id": entity.id},
            "attrs": {**attrs, "id": entity.id},
            "parents": [{"type": parent.type, "id": parent.id} for parent in entity.parents],
        }


def _check_name(entity: Entity) -> None:
    """Refuse a name that nothing is known by, or that a reader of the log could take for another."""
    if not entity.known:
        raise _Refused(f"entity-missing:{entity.type}")
    if not (0 < len(entity.id) <= MAX_ID_CHARS and entity.id.isascii() and entity.id.isprintable()):
        raise _Refused("name-refused")


def _plain(value: object, depth: int) -> object:
    """Return `value` as what JSON holds; refuse floats, null, and keys that Cedar's JSON reads as an escape."""
    kind = type(value)
    if kind is str or kind is bool or kind is int:
        return value
    if depth < MAX_DEPTH:
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_plain(item, depth + 1) for item in value]
        if isinstance(value, Mapping):
            return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
    raise _Refused("facts-refused")


def _key(key: object) -> str:
    # {"__entity": …} would become a reference to an entity that nobody supplied facts for.
    if isinstance(key, str) and not key.startswith("__"):
        return key
    raise _Refused("facts-refused")
