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
from importlib import resources
from typing import Final

import cedarpy

from policy import oracle
from policy.errors import Refused
from policy.facts import Facts, context_of, world_of
from policy.model import Decision, Request
from policy.rules import SCHEMA_NAME, load
from policy.slices import policy_set

SHIPPED: Final[Mapping[str, tuple[str, ...]]] = {
    "default": ("default.cedar",),
    "strict": ("default.cedar", "strict.cedar"),
}
"""The sets that ship, by name: the stricter one is the default and more that it forbids."""

# Cedar says in words only why it gave no decision. A text not listed is still a denial, as engine-error.
_NO_DECISION: Final = (
    ("does not exist in the supplied schema", "unknown-action"),
    ("context", "context-refused"),
    ("is not valid for", "not-applicable"),
    ("is not declared in the schema", "not-applicable"),
)


class Engine:
    """One set of rules with its schema, parsed and validated once; then `decide` as often as needed.

    `rules` maps a file name such as "default.cedar" to its text. Raises PolicyInvalid, naming file and rule,
    when the set is empty, does not parse, or does not fit the schema; then there is no engine to ask.
    """

    __slots__ = ("_facts", "_rules", "digest")

    def __init__(self, rules: Mapping[str, str], schema: str) -> None:
        self._rules = load(rules, schema)
        self._facts = Facts(self._rules.schema)
        self.digest: Final = self._rules.digest

    def decide(self, request: Request) -> Decision:
        """Judge one request. Never raises for anything in the request or in Cedar: that is a denial."""
        try:
            return self._judge(request)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001  a panic in Cedar is no Exception, and must deny as well
            return self._denied((), ("engine-error",))

    @property
    def names(self) -> tuple[str, ...]:
        """The rules of the set, in the order of their files."""
        return tuple(self._rules.by_name)

    def each_alone(self, request: Request) -> dict[str, str]:
        """Say of each rule whose head fits what it does by itself: permit, forbid, or nothing (empty).

        For explanations; what decides is `decide`. Empty where the request is not put to the rules at all.
        """
        principal, resource = request.principal, request.resource
        try:
            context, entities = context_of(request), self._facts.entities(world_of(request), request)
        except Refused:
            return {}
        names = self._rules.slices.names(
            (principal.type, principal.id), request.action, (resource.type, resource.id)
        )
        found = {}
        for name in names:
            rule = self._rules.by_name[name]
            asked = _asked(request, context)
            told = cedarpy.is_authorized(asked, policy_set({name: rule}), entities, self._rules.schema)
            found[name] = str(rule["effect"]) if told.diagnostics.reasons else ""
        return found

    def _judge(self, request: Request) -> Decision:
        principal, action, resource = request.principal, request.action, request.resource
        try:
            world, context = world_of(request), context_of(request)
            entities = self._facts.entities(world, request)
        except Refused as refused:
            return self._denied((), (*oracle.missing_facts(request), str(refused)))
        broken = oracle.broken_invariants(request)
        answer = cedarpy.is_authorized(
            _asked(request, context),
            self._rules.slices.of(
                (principal.type, principal.id), action, (resource.type, resource.id), world
            ),
            entities,
            self._rules.schema,
        )
        told = answer.diagnostics
        decision, failed = answer.decision, told.errors
        if decision is cedarpy.Decision.NoDecision:
            return self._denied((), (*broken, _why_no_decision(failed)))
        names = told.id_annotations_by_reason
        deciding = tuple(sorted(names[reason] for reason in told.reasons))
        permitted = decision is cedarpy.Decision.Allow
        if permitted and deciding and not failed and not broken:
            return Decision(allow=True, policies=deciding, policy_set=self.digest, reasons=())
        engine_error = bool(failed) or (permitted and not deciding)
        return self._denied(deciding, (*_why_denied(deciding, permitted, engine_error), *broken))

    def _denied(self, policies: tuple[str, ...], reasons: tuple[str, ...]) -> Decision:
        return Decision(allow=False, policies=policies, policy_set=self.digest, reasons=reasons)


def shipped(name: str = "default") -> tuple[Mapping[str, str], str]:
    """Return the rules of a set that comes with this package, and the schema: `Engine(*shipped())`."""
    here = resources.files("policy")
    return {file: (here / file).read_text("utf-8") for file in SHIPPED[name]}, schema()


def schema() -> str:
    """Return the one schema: what this release's gate states, whatever the rules."""
    return (resources.files("policy") / SCHEMA_NAME).read_text("utf-8")


def _asked(request: Request, context: str) -> dict[str, object]:
    return {
        "principal": {"type": request.principal.type, "id": request.principal.id},
        "action": {"type": "Action", "id": request.action},
        "resource": {"type": request.resource.type, "id": request.resource.id},
        "context": context,
    }


def _why_no_decision(errors: list[str]) -> str:
    text = " ".join(errors)
    return next((reason for words, reason in _NO_DECISION if words in text), "engine-error")


def _why_denied(deciding: tuple[str, ...], permitted: bool, engine_error: bool) -> tuple[str, ...]:  # noqa: FBT001  two halves of one answer
    if engine_error:
        return ("engine-error",)
    if permitted:
        return ()
    return tuple(f"forbidden-by:{name}" for name in deciding) or ("no-rule-permits",)
