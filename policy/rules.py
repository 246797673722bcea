"""From rule files to something that can be judged by: checked whole, or not loaded at all.

Guarantees to the engine that every rule in the set parsed, fits the schema, decides (no templates) and has a
name of its own, so that the log can say which rules decided. An error names the file and the line on which
the rule begins. The digest can be made without this program:

    sha256sum *.cedar schema.cedarschema | sha256sum

in a folder that holds exactly these files, under LC_ALL=C. Source of the validation: Cedar 4, "Policy
validation".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import cedarpy

from policy.errors import PolicyInvalid
from policy.slices import Rule, Slices
from policy.statements import statements

MAX_FILE_BYTES: Final = 1 << 20
MAX_FILES: Final = 64
SCHEMA_NAME: Final = "schema.cedarschema"
UNLOADED: Final = "nothing was loaded"

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.cedar")
_RULE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Rules:
    """Parsed rules by name and schema, kept as handles because parsing costs fifteen times a decision."""

    by_name: Mapping[str, Rule]
    slices: Slices
    schema: cedarpy.Schema
    digest: str


def load(rules: Mapping[str, str], schema: str) -> Rules:
    """Check and parse. Raises PolicyInvalid naming the file, the line where there is one, and the fault."""
    _check_sizes(rules, schema)
    try:
        parsed_schema = cedarpy.Schema.from_str(schema)
    except ValueError as error:
        raise PolicyInvalid(f"{SCHEMA_NAME}: {error}; {UNLOADED}") from error
    by_name: dict[str, Rule] = {}
    where: dict[str, str] = {}
    for file in sorted(rules):
        for name, line, rule in _named(file, rules[file]):
            if name in where:
                raise PolicyInvalid(
                    f"{file}:{line}: two rules have the name {name!r}, the other in {where[name]}; "
                    f"give each its own @id; {UNLOADED}"
                )
            by_name[name], where[name] = rule, f"{file}:{line}"
    if not by_name:
        raise PolicyInvalid(f"expected at least one rule, found none; {UNLOADED}")
    for file in sorted(rules):
        _validate(file, rules[file], parsed_schema, where)
    return Rules(by_name, Slices(by_name, parsed_schema), parsed_schema, policy_digest(rules, schema))


def formatted(file: str, text: str) -> str:
    """Return a rule file in Cedar's own layout; raises PolicyInvalid."""
    _check_sizes({file: text}, " ;")
    list(_named(file, text))
    return str(cedarpy.format_policies(text, 110, 2))


def policy_digest(rules: Mapping[str, str], schema: str) -> str:
    """Return the SHA-256, in hex, over the `sha256sum` lines of the rule files by name, then the schema."""
    files = [*((name, rules[name]) for name in sorted(rules)), (SCHEMA_NAME, schema)]
    lines = "".join(f"{sha256(text.encode()).hexdigest()}  {name}\n" for name, text in files)
    return sha256(lines.encode()).hexdigest()


def _check_sizes(rules: Mapping[str, str], schema: str) -> None:
    if len(rules) > MAX_FILES:
        raise PolicyInvalid(f"expected at most {MAX_FILES} rule files, found {len(rules)}")
    for name in rules:
        if not _FILE_NAME.fullmatch(name):
            raise PolicyInvalid(f"expected a rule file named like lab.cedar in lower case, found {name!r}")
    for name, text in (*rules.items(), (SCHEMA_NAME, schema)):
        size_bytes = len(text.encode())
        if size_bytes > MAX_FILE_BYTES:
            raise PolicyInvalid(f"{name}: expected at most {MAX_FILE_BYTES} bytes, found {size_bytes}")
    if not schema.strip():
        raise PolicyInvalid(
            f"{SCHEMA_NAME}: expected a schema, found nothing; without one nothing is checked"
        )


def _named(file: str, text: str) -> Iterator[tuple[str, int, Rule]]:
    """Yield the @id of each rule in `text`, the line on which it begins, and the rule."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        begins = [each.line for each in statements(text) if not _parses(each.text)]
        raise PolicyInvalid(f"{file}:{min(begins, default=1)}: {error}; {UNLOADED}") from error
    if parsed["templates"]:
        raise PolicyInvalid(
            f"{file}: a rule with ?principal or ?resource decides nothing; write the names out; {UNLOADED}"
        )
    # Cedar numbers the rules in their order: policy0, policy1, and so on.
    numbered: dict[str, Any] = parsed["staticPolicies"]
    for number, statement in enumerate(statements(text)[: len(numbered)]):
        rule = numbered[f"policy{number}"]
        name = rule.get("annotations", {}).get("id") or ""
        if not _RULE_NAME.fullmatch(name):
            raise PolicyInvalid(
                f'{file}:{statement.line}: expected @id("lower-case-name") before the rule, found {name!r}; '
                f"the log names rules by it; {UNLOADED}"
            )
        yield name, statement.line, rule


def _parses(text: str) -> bool:
    """Say whether Cedar reads one rule by itself."""
    try:
        cedarpy.policies_to_json_str(text)
    except ValueError:
        return False
    return True


def _validate(file: str, text: str, schema: cedarpy.Schema, where: Mapping[str, str]) -> None:
    result = cedarpy.validate_policies(text, schema)
    if result.validation_passed and not result.errors:
        return
    first = result.errors[0]
    name = result.id_annotations_by_policy_id.get(first.policy_id, "")
    raise PolicyInvalid(f"{where.get(name, file)}: rule {name!r}: {first.error}; {UNLOADED}")
