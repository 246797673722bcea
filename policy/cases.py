"""Tables of expected decisions: what a set of rules is to answer, written down before it counts.

A table is TOML. Each `[[case]]` is one question; what it leaves out comes from `[defaults]`, and facts about
the appliance that neither states from a host on which everything works:

    [[case]]
    name = "a trainee samples nothing"
    principal = "Person:ada"          # roles, compartments and other facts beside it
    roles = ["trainee"]
    action = "sample"
    resource = "Object:weights/tales" # an object's kind, and its name
    facts = { sealed = true }         # whatever the context states
    expect = "deny"
    because = ["no-rule-permits"]     # optional: codes or rules that must be among those told

A table with an unknown key or without an expectation would test nothing: it is refused, Malformed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from policy.engine import Engine
from policy.errors import Malformed, PolicyInvalid
from policy.model import Decision, Entity, Request

PROMISES: Final = "promises.toml"
MAX_TABLE_CHARS: Final = 1 << 20
EXPECTATIONS: Final = ("allow", "deny")
WORKING: Final[Mapping[str, object]] = {
    "profile": "isolated",
    "sealed": False,
    "isolated": True,
    "custody": "tpm:",
    "log_custody": "tpm:",
    "since_boot_s": 86400,
    "witnesses": 1,
    "witnessed_once": True,
    "unwitnessed_entries": 0,
    "unwitnessed_age_s": 0,
    "break_glass": False,
}

_KEYS: Final = frozenset(
    (
        *("name", "principal", "roles", "compartments", "purpose", "objects", "action"),
        *("resource", "labels", "state", "facts", "expect", "because"),
    )
)


@dataclass(frozen=True, slots=True)
class Case:
    """One question and what the answer is to be; `expect` is empty where only the question is meant."""

    name: str
    request: Request
    expect: str
    because: tuple[str, ...]

    def differs(self, decision: Decision) -> str:
        """Say how a decision differs from what is expected; empty where it does not."""
        found = "allow" if decision.allow else "deny"
        told = (*decision.policies, *decision.reasons)
        why = ", ".join(decision.reasons or decision.policies)
        if found != self.expect:
            return f"{self.name}: expected {self.expect}, found {found} ({why})"
        missing = [each for each in self.because if each not in told]
        return f"{self.name}: expected {', '.join(missing)} among the reasons, found {why}" if missing else ""


def demand_promises(engine: Engine) -> None:
    """Hold a set to what every set must answer; raises PolicyInvalid, naming the first that differs."""
    text = (resources.files("policy") / PROMISES).read_text("utf-8")
    for case in parse_cases(text, PROMISES):
        if told := case.differs(engine.decide(case.request)):
            raise PolicyInvalid(f"{told}: every set of rules must answer so; nothing was loaded")


def parse_cases(text: str, file: str, *, expectations: bool = True) -> tuple[Case, ...]:
    """Read a table; raises Malformed, naming file and case."""
    if len(text) > MAX_TABLE_CHARS:
        raise Malformed(f"{file}: expected at most {MAX_TABLE_CHARS} characters, found {len(text)}")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as broken:
        raise Malformed(f"{file}: expected TOML, {broken}") from broken
    rows = table.get("case", [])
    defaults = table.get("defaults", {})
    if not set(table) <= {"case", "defaults"} or not isinstance(rows, list) or not isinstance(defaults, dict):
        raise Malformed(
            f"{file}: expected [defaults] and [[case]] only, found {', '.join(sorted(table))[:80]}"
        )
    if not rows:
        raise Malformed(f"{file}: expected at least one [[case]], found none: it would test nothing")
    return tuple(_case(row, defaults, f"{file}: case {n}", expectations) for n, row in enumerate(rows, 1))


def _case(row: object, defaults: Mapping[str, Any], where: str, expectations: bool) -> Case:  # noqa: FBT001  passed on
    if not isinstance(row, dict):
        raise Malformed(f"{where}: expected a table, found {row!r:.60}")
    said = {**defaults, **row, "facts": {**_facts(defaults, where), **_facts(row, where)}}
    if unknown := sorted(said.keys() - _KEYS):
        raise Malformed(f"{where}: expected only {', '.join(sorted(_KEYS))}, found {unknown[0]!r}")
    name = _text(said, "name", where, default=where)
    expect = _text(said, "expect", where, default="")
    if expectations and expect not in EXPECTATIONS:
        raise Malformed(f"{where}: expected `expect` to be allow or deny, found {expect!r:.40}")
    principal = _principal(said, where)
    resource = _resource(said, where)
    request = Request(principal, _text(said, "action", where), resource, {**WORKING, **said["facts"]})
    return Case(name, request, expect, _texts(said, "because", where))


def _principal(said: Mapping[str, Any], where: str) -> Entity:
    kind, name = _named(_text(said, "principal", where), where)
    compartments = _texts(said, "compartments", where)
    if kind == "Person":
        return Entity(kind, name, {"roles": _texts(said, "roles", where), "compartments": compartments})
    if kind == "Job":
        attrs = {"owner": "owner", "purpose": _text(said, "purpose", where, default="train")}
        objects = _texts(said, "objects", where)
        return Entity(kind, name, {**attrs, "objects": objects, "compartments": compartments})
    if kind == "Custodian":
        return Entity(kind, name, {})
    raise Malformed(f"{where}: expected a principal Person:, Job: or Custodian:, found {kind[:40]!r}")


def _resource(said: Mapping[str, Any], where: str) -> Entity:
    kind, name = _named(_text(said, "resource", where), where)
    labels = _texts(said, "labels", where)
    if kind == "Object":
        what, _, called = name.partition("/")
        state = _text(said, "state", where, default="ready")
        return Entity(kind, name, {"kind": what, "name": called, "compartments": labels, "state": state})
    if kind == "Bundle":
        attrs = {"kind": "corpus", "direction": "import", "signer": name, "compartments": labels}
        return Entity(kind, name, attrs)
    if kind == "JobRecord":
        return Entity(kind, name, {"owner": "owner"})
    if kind == "Appliance":
        return Entity(kind, name, {})
    raise Malformed(
        f"{where}: expected a resource Object:, Bundle:, JobRecord: or Appliance:, found {kind[:40]!r}"
    )


def _facts(said: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    facts = said.get("facts", {})
    if not isinstance(facts, dict):
        raise Malformed(f"{where}: expected a table of facts, found {facts!r:.60}")
    return facts


def _named(text: str, where: str) -> tuple[str, str]:
    kind, colon, name = text.partition(":")
    if not colon or not name:
        raise Malformed(f"{where}: expected TYPE:NAME such as Person:ada, found {text[:60]!r}")
    return kind, name


def _text(said: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    found = said.get(key, default)
    if not isinstance(found, str):
        raise Malformed(f"{where}: expected a text as `{key}`, found {found!r:.60}")
    return found


def _texts(said: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    found = said.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise Malformed(f"{where}: expected a list of texts as `{key}`, found {found!r:.60}")
    return tuple(found)
