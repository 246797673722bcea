"""Cedar behind one function: `Engine.decide` answers every request, and nothing that fails is ever an allow.

A decision is an allow only when all of these hold, which is more than Cedar itself asks for:

1. every named entity came with its facts (Cedar lets a rule that reads none allow strangers);
2. facts, action and entities conform to the schema, which Cedar checks per request only when it is given one
   (what does not conform is Cedar's third answer, NoDecision);
3. Cedar's answer is Allow and no rule failed to evaluate (a `forbid` that errs is skipped by Cedar);
4. the independent list of `policy.oracle` finds no promise broken.

Anything else is a denial with a reason code; docs/policy.md lists them (a colon separates code and name).
Source of the language's meaning: Cedar 4, "Authorization" (default deny, forbid over permit, skip on error).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from json import JSONEncoder
from typing import Final

import cedarpy

from policy import oracle
from policy.model import Decision, Entity, Request
from policy.rules import load

MAX_ID_CHARS: Final = 256
MAX_FACTS_BYTES: Final = 65536
MAX_ENTITIES: Final = 64
MAX_HANDLES: Final = 256


def _listed(value: object) -> object:
    """Show JSON what a set or a read-only mapping holds."""
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no fact is a {type(value).__name__}")


_encode = JSONEncoder(separators=(",", ":"), allow_nan=False, default=_listed).encode

# Cedar says in words only why it gave no decision. A text not listed is still a denial, as engine-error.
_NO_DECISION: Final = (
    ("does not exist in the supplied schema", "unknown-action"),
    ("context", "context-refused"),
    ("is not valid for", "not-applicable"),
    ("is not declared in the schema", "not-applicable"),
)


class _Refused(Exception):
    """Carries the reason code of a request that is not put to Cedar at all."""


class Engine:
    """One set of rules with its schema, parsed and validated once; then `decide` as often as needed.

    `rules` maps a file name such as "default.cedar" to its text. Raises PolicyInvalid, naming file and rule,
    when the set is empty, does not parse, or does not fit the schema; then there is no engine to ask.
    """

    __slots__ = ("_entities", "_policies", "_schema", "digest")

    def __init__(self, rules: Mapping[str, str], schema: str) -> None:
        loaded = load(rules, schema)
        self._policies = loaded.policies
        self._schema = loaded.schema
        # The same people and objects come again and again: a handle kept saves 20 of 63 µs.
        self._entities = lru_cache(maxsize=MAX_HANDLES)(self._checked_entities)
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
        entities = self._entities(_facts(request))
        context = _encoded(request.context)
        broken = oracle.broken_invariants(request)
        answer = cedarpy.is_authorized(
            {
                "principal": {"type": request.principal.type, "id": request.principal.id},
                "action": {"type": "Action", "id": request.action},
                "resource": {"type": request.resource.type, "id": request.resource.id},
                "context": context,
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

    def _checked_entities(self, facts: str) -> cedarpy.Entities:
        try:
            return cedarpy.Entities.from_json_str(facts, self._schema)
        except ValueError as error:
            raise _Refused("facts-refused") from error

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
    permitted = answer.decision is cedarpy.Decision.Allow
    if answer.diagnostics.errors or (permitted and not deciding):
        return ("engine-error",)
    if permitted:
        return ()
    return tuple(f"forbidden-by:{name}" for name in deciding) or ("no-rule-permits",)


def _facts(request: Request) -> str:
    """Return each named entity as Cedar's JSON; Cedar denies two of one name with different facts."""
    named = [request.principal, request.resource]
    for entity in named:  # grows while it is walked: parents come with their own facts
        _check_name(entity)
        named.extend(parent for parent in entity.parents if parent not in named)
        if len(named) > MAX_ENTITIES:
            raise _Refused("facts-refused")
    return _encoded(
        [
            {
                "uid": {"type": entity.type, "id": entity.id},
                "attrs": {**entity.attrs, "id": entity.id},
                "parents": [{"type": parent.type, "id": parent.id} for parent in entity.parents],
            }
            for entity in named
        ]
    )


def _check_name(entity: Entity) -> None:
    """Refuse a name that nothing is known by, or that a reader of the log could take for another."""
    if not entity.known:
        raise _Refused(f"entity-missing:{entity.type}")
    if not (0 < len(entity.id) <= MAX_ID_CHARS and entity.id.isascii() and entity.id.isprintable()):
        raise _Refused("name-refused")
    if "id" in entity.attrs:
        raise _Refused("facts-refused")


def _encoded(value: object) -> str:
    """Encode facts as JSON, bounded. What JSON cannot say is refused here; Cedar refuses floats."""
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise _Refused("facts-refused") from error
    # {"__entity": …} as a value would become a reference to an entity that nobody supplied facts for.
    if len(text) > MAX_FACTS_BYTES or '"__' in text:
        raise _Refused("facts-refused")
    return text
