"""From rule files to something that can be judged by: checked whole, or not loaded at all.

Guarantees to the engine that every rule in the set parsed, fits the schema, decides (no templates) and has a
name of its own, so that the log can say which rules decided. The digest can be made without this program:

    sha256sum *.cedar schema.cedarschema | sha256sum

in a folder that holds exactly these files, under LC_ALL=C. Source of the validation: Cedar 4, "Policy
validation".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import cedarpy

from policy.errors import PolicyInvalid

MAX_FILE_BYTES: Final = 1 << 20
MAX_FILES: Final = 64
SCHEMA_NAME: Final = "schema.cedarschema"

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.cedar")
_RULE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Rules:
    """Parsed rules and schema, kept as handles because parsing costs fifteen times a decision."""

    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    digest: str


def load(rules: Mapping[str, str], schema: str) -> Rules:
    """Check and parse. Raises PolicyInvalid naming the file, the rule where there is one, and the fault."""
    _check_sizes(rules, schema)
    try:
        parsed_schema = cedarpy.Schema.from_str(schema)
    except ValueError as error:
        raise PolicyInvalid(f"{SCHEMA_NAME}: {error}; nothing was loaded") from error
    names = [name for file in sorted(rules) for name in _rule_names(file, rules[file])]
    if not names:
        raise PolicyInvalid("expected at least one rule, found none; nothing was loaded")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise PolicyInvalid(f"two rules have the name {twice[0]!r}; give each its own @id")
    for file in sorted(rules):
        _validate(file, rules[file], parsed_schema)
    whole = "\n".join(rules[file] for file in sorted(rules))
    return Rules(cedarpy.PolicySet.from_str(whole), parsed_schema, policy_digest(rules, schema))


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


def _rule_names(file: str, text: str) -> Iterator[str]:
    """Yield the @id of each rule in `text`."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise PolicyInvalid(f"{file}: {error}; nothing was loaded") from error
    if parsed["templates"]:
        raise PolicyInvalid(
            f"{file}: a rule with ?principal or ?resource decides nothing; write the names out"
        )
    for number, rule in enumerate(parsed["staticPolicies"].values(), start=1):
        name = rule.get("annotations", {}).get("id") or ""
        if not _RULE_NAME.fullmatch(name):
            raise PolicyInvalid(
                f'{file}: rule {number} in order: expected @id("lower-case-name") before it, found {name!r}; '
                "the log names rules by it"
            )
        yield name


def _validate(file: str, text: str, schema: cedarpy.Schema) -> None:
    result = cedarpy.validate_policies(text, schema)
    if result.validation_passed and not result.errors:
        return
    first = result.errors[0]
    name = result.id_annotations_by_policy_id.get(first.policy_id, "")
    line = text[: max(text.find(f'@id("{name}")'), 0)].count("\n") + 1
    raise PolicyInvalid(f"{file}:{line}: rule {name!r}: {first.error}; nothing was loaded")
