"""Where sets of rules lie: the first in `policy/` itself, each later one in a folder of its digest.

Guarantees that a set is what the log calls it: whatever is read is parsed, validated and its digest compared.
A folder is complete before it has its name, and no set is ever changed or removed, so that any logged
decision can be judged again by the rules of its time.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from appliance.errors import IntegrityError, UsageError
from appliance.home import CHANGED, Facts, Home
from policy.cases import WORKING
from policy.engine import Engine
from policy.model import Entity, Request
from policy.rules import MAX_FILE_BYTES, MAX_FILES, SCHEMA_NAME


def open_rules(home: Home, facts: Facts, digest: str) -> Engine:
    """Return the set of this digest; raises IntegrityError where the files are another, PolicyInvalid."""
    folder = home.policy if digest == facts.policy_set else home.policy / digest
    rules = {
        path.name: _read(path) for path in sorted(folder.glob("*.cedar"))[: MAX_FILES + 1] if path.is_file()
    }
    try:
        engine = Engine(rules, _read(folder / SCHEMA_NAME))
    except FileNotFoundError as missing:
        raise IntegrityError(
            f"the rule set in {folder} lacks {missing.filename}: restore its files"
        ) from missing
    if engine.digest != digest:
        raise IntegrityError(f"the rule set in {folder} {CHANGED}: restore its files")
    return engine


def keep_rules(home: Home, digest: str, rules: Mapping[str, str], schema: str) -> None:
    """Write a set durably under its digest; one that lies there already is left."""
    folder = home.policy / digest
    if folder.exists():
        return
    scratch = home.policy / f".{digest[:16]}.{secrets.token_hex(4)}"
    scratch.mkdir(mode=0o750)
    for name, text in {**rules, SCHEMA_NAME: schema}.items():
        with (scratch / name).open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
    scratch.rename(folder)
    parent = os.open(home.policy, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def demand_openable(engine: Engine, profile: str, custody: str) -> None:
    """Refuse rules under which an operator could never open this vault; raises UsageError."""
    operator = Entity("Person", "operator", {"roles": ("operator",), "compartments": ()})
    context = {**WORKING, "profile": profile, "custody": custody, "sealed": True}
    decision = engine.decide(Request(operator, "unseal", Entity("Appliance", "new", {}), context))
    if not decision.allow:
        raise UsageError(
            f"custody {custody}: expected one that the rules let an operator unseal, found "
            f"{', '.join(decision.reasons)}: choose shamir:, tpm: or pkcs11:, or other rules"
        )


def _read(path: Path) -> str:
    with path.open("rb") as source:
        return source.read(MAX_FILE_BYTES + 1).decode("utf-8", "replace")
