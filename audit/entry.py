"""Entries: one logged fact each, written once as JSON and hashed as written.

Guarantees the log that every entry it is given fits, whatever a hostile client named, and the reader that
an entry it parses is the one spelling a correct writer produces: sorted keys, ASCII, no floats, no repeats.
What is secret never enters in clear: a salted commitment does.
Source: docs/formats/audit-log.md; RFC 8259, RFC 2104 and RFC 5869 with SHA-256.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NoReturn, TypeAlias

from audit.errors import Malformed
from audit.tiles import MAX_ENTRY_BYTES

JSON: TypeAlias = "bool | int | str | Sequence[JSON] | Mapping[str, JSON] | None"

VERSION = 1
_FIELDS = {"v", "seq", "time", "kind", "principal", "action", "resource", "context", "decision"}
_DECISION_FIELDS = {"allow", "policies", "policy_set", "reasons"}
_KIND = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_MAX_DEPTH = 8
_MAX_INTEGER = 2**64 - 1  # seeds are 64 bits wide
_MAX_NAME_CHARS = 1024
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy said: the outcome, ids of the determining policies, digest of the set, reasons."""

    allow: bool
    policies: tuple[str, ...] = ()
    policy_set: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """A fact to be logged; `secret` values enter the entry's context as commitments only."""

    kind: str
    principal: str
    action: str
    resource: str
    context: Mapping[str, JSON] = field(default_factory=dict)
    decision: Decision | None = None
    secret: Mapping[str, JSON] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it stands in the log: number `seq` (its index), written at `time` (UTC, RFC 3339)."""

    seq: int
    time: str
    kind: str
    principal: str
    action: str
    resource: str
    context: Mapping[str, JSON]
    decision: Decision | None


def format_time(unix_seconds: float) -> str:
    """Write a moment as `2026-01-02T03:04:05.000000Z`."""
    return datetime.fromtimestamp(unix_seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def commitment(secret: bytes | bytearray | memoryview, seq: int, name: str, value: JSON) -> str:
    """Commit to a secret value of entry `seq`: `commitment_under` that entry's salt."""
    return commitment_under(entry_salt(secret, seq), name, value)


def commitment_under(salt: bytes, name: str, value: JSON) -> str:
    """Commit to a secret value: hex HMAC-SHA-256 under `entry_salt` of the canonical JSON `[name,value]`.

    Raises Malformed for a value that no entry can hold.
    """
    return hmac.digest(salt, _dump([name, _plain(value, 0)]), "sha256").hex()


def entry_salt(secret: bytes | bytearray | memoryview, seq: int) -> bytes:
    """Salt of one entry, 32 bytes, which opens this entry's commitments to an auditor and no other's.

    HKDF-SHA-256 (RFC 5869) of the log's secret, without salt, info `appliance audit entry` || seq as uint64.
    """
    key = hmac.digest(bytes(sha256().digest_size), secret, "sha256")
    return hmac.digest(key, b"appliance audit entry" + seq.to_bytes(8, "big") + b"\x01", "sha256")


def with_commitments(record: Record, seq: int, secret: bytes | bytearray | memoryview | None) -> Record:
    """Replace `record.secret` by commitments in its context; raises Malformed where `secret` is None."""
    if not record.secret:
        return record
    if secret is None:
        raise Malformed(
            f"record {record.kind}: has secret values, but the log was given no commitment secret: unseal"
        )
    if clash := sorted(record.secret.keys() & record.context.keys()):
        raise Malformed(f"record {record.kind}: {clash[0]!r} stands in both its context and its secrets")
    committed = {name: {"commitment": commitment(secret, seq, name, v)} for name, v in record.secret.items()}
    return replace(record, context={**record.context, **committed}, secret={})


def encode_entry(record: Record, seq: int, time: str) -> bytes:
    """Write a record as an entry of at most 65535 bytes; what would not fit enters as its hash.

    Raises Malformed for what no caller may log: floats, lone surrogates, secrets in clear, other types.
    """
    if record.secret:
        raise Malformed(f"record {record.kind}: its secret values must become commitments first")
    context = _plain(record.context, 0)
    _check_head(record.kind, seq, time)
    decision = _decision_object(record.decision)
    fields = {
        "v": VERSION,
        "seq": seq,
        "time": time,
        "kind": record.kind,
        "principal": _bounded(record.principal),
        "action": _bounded(record.action),
        "resource": _bounded(record.resource),
        "context": context,
        "decision": decision,
    }
    if len(encoded := _dump(fields)) <= MAX_ENTRY_BYTES:
        return encoded
    return _dump(_shrink(fields, len(encoded)))


def parse_entry(data: bytes) -> Entry:
    """Read one entry; accepts only what `encode_entry` writes; raises Malformed."""
    if len(data) > MAX_ENTRY_BYTES:
        raise Malformed(f"entry: expected at most {MAX_ENTRY_BYTES} bytes, found {len(data)}")
    try:
        fields = _DECODER.decode(data.decode("ascii"))
    except (
        ValueError,
        RecursionError,
    ) as failure:  # ValueError: bad JSON, not ASCII, an integer of 5000 digits
        raise Malformed(f"entry: expected JSON, found {data[:60]!r}") from failure
    if not isinstance(fields, dict) or fields.keys() != _FIELDS or _dump(fields) != data:
        raise Malformed(
            f"entry: expected exactly the fields {sorted(_FIELDS)} in canonical JSON, found {data[:60]!r}"
        )
    texts = [fields[name] for name in ("time", "kind", "principal", "action", "resource")]
    if (
        type(fields["v"]) is not int
        or fields["v"] != VERSION
        or not all(isinstance(text, str) for text in texts)
    ):
        raise Malformed(f"entry: expected version {VERSION} and texts, found {data[:60]!r}")
    _check_head(fields["kind"], fields["seq"], fields["time"])
    _check_bounded(texts)
    _plain(fields["context"], 0)
    if not isinstance(fields["context"], dict):
        raise Malformed(f"entry {fields['seq']}: expected an object as its context")
    del fields["v"]
    return Entry(**{**fields, "decision": _parse_decision(fields["decision"])})


def _check_head(kind: str, seq: object, time: str) -> None:
    if not _KIND.fullmatch(kind):
        raise Malformed(f"entry: expected a kind such as 'read.weights', found {kind[:80]!r}")
    if isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq < 2**63:
        raise Malformed(f"entry: expected a sequence number, found {seq!r}")
    if not _TIME.fullmatch(time):
        raise Malformed(f"entry {seq}: expected a UTC time with microseconds, found {time[:40]!r}")


def _check_bounded(texts: Sequence[str]) -> None:
    for text in texts:
        if _bounded(text) != text:
            raise Malformed(
                f"entry: expected names of at most {_MAX_NAME_CHARS} characters, found {len(text)}; "
                "longer ones enter as their hash"
            )


def _decision_object(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "allow": decision.allow,
        "policies": [_bounded(policy) for policy in decision.policies],
        "policy_set": _bounded(decision.policy_set),
        "reasons": [_bounded(reason) for reason in decision.reasons],
    }


def _parse_decision(value: object) -> Decision | None:
    if value is None:
        return None
    if isinstance(value, dict) and value.keys() == _DECISION_FIELDS:
        texts = (value["policies"], value["reasons"], [value["policy_set"]])
        lists = all(isinstance(text, list) and all(isinstance(t, str) for t in text) for text in texts)
        if isinstance(value["allow"], bool) and lists:
            policies, reasons = tuple(value["policies"]), tuple(value["reasons"])
            _check_bounded([*policies, *reasons, value["policy_set"]])
            return Decision(value["allow"], policies, value["policy_set"], reasons)
    raise Malformed(
        f"entry: expected a decision with the fields {sorted(_DECISION_FIELDS)}, found {str(value)[:80]!r}"
    )


def _plain(value: object, depth: int) -> Any:
    """Copy a value into plain dicts and lists, refusing what has no single spelling in JSON."""
    if depth > _MAX_DEPTH:
        raise Malformed(f"entry: expected values nested at most {_MAX_DEPTH} deep")
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= _MAX_INTEGER:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_text(key): _plain(item, depth + 1) for key, item in value.items()}
    raise Malformed(
        f"entry: expected text, 64-bit integers, booleans, lists or objects, found {type(value).__name__}"
    )


def _text(value: str) -> str:
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise Malformed(f"entry: expected text that UTF-8 can carry, found {value[:40]!a}")
    return value


def _bounded(value: str) -> str:
    """Keep a name as it is, or name it by its hash when a client made it absurdly long."""
    _text(value)
    return value if len(value) <= _MAX_NAME_CHARS else f"sha256:{sha256(value.encode()).hexdigest()}"


def _shrink(fields: dict[str, Any], size: int) -> dict[str, Any]:
    """Replace the largest values of the context by their hashes until the entry fits, then all of it."""
    context = dict(fields["context"])
    for name in sorted(context, key=lambda name: len(_dump(context[name])), reverse=True):
        before = len(_dump(context[name]))
        context[name] = digest_of(context[name])
        size += len(_dump(context[name])) - before
        if size <= MAX_ENTRY_BYTES:
            return {**fields, "context": context}
    fields = {**fields, "context": digest_of(fields["context"])}
    if len(_dump(fields)) > MAX_ENTRY_BYTES:
        decision = fields["decision"]
        lists = {name: [f"sha256:{digest_of(decision[name])['sha256']}"] for name in ("policies", "reasons")}
        fields["decision"] = {**decision, **lists}
    return fields


def digest_of(value: object) -> dict[str, Any]:
    """Return what stands in an entry for a value that would not fit: SHA-256 and size of its JSON."""
    data = _dump(value)
    return {"sha256": sha256(data).hexdigest(), "size": len(data)}


def _dump(value: object) -> bytes:
    # ASCII: a terminal that shows an entry cannot be steered by control or direction characters in a name.
    return _ENCODER.encode(value).encode("ascii")


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not an integer")


_DECODER = json.JSONDecoder(parse_float=_refuse_number, parse_constant=_refuse_number)
