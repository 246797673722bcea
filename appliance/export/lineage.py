"""Lineage: where an exported model came from, as an in-toto provenance statement inside the signed folder.

    lineage/statement.json       this statement; its subjects are the model's other files
    lineage/<name>.tlog-proof    receipts named in the statement, each with
    lineage/<name>.entry         the log entry that it proves
    lineage/tree-head.note       the log's signed tree head at export
    lineage/epoch-<n>.tlog-proof the heads that closed epochs of the log's key, if it was ever rotated, each
    lineage/epoch-<n>.entry      with the entry that names the next key

Guarantees to the recipient: a statement that parses is complete and of one spelling, and every number or
digest that is secret stands there as a commitment (HMAC with a salt of its log entry), never guessable in
clear. That it is true rests on the appliance that signed it, and on the receipts.
Source: in-toto Statement v1; commitments as in docs/formats/audit-log.md, section Entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle import canonical
from appliance.bundle.names import check_member_names
from appliance.errors import ContentRefused
from appliance.export.form import ARCHITECTURES, ROUNDINGS, Form

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://appliance.invalid/training-provenance/v1"
FORMAT = 1
FOLDER = "lineage"
STATEMENT_NAME = f"{FOLDER}/statement.json"
TREE_HEAD_NAME = f"{FOLDER}/tree-head.note"
MATERIAL_KINDS = ("corpus", "config", "weights", "tokenizer")
PROFILES = ("development", "isolated")
MAX_RECEIPTS = 64

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
# Numbers travel as decimal text: seeds and operation counts pass the 53 bits that JSON readers agree on.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,39}")


@dataclass(frozen=True, slots=True)
class Commitment:
    """Stands in the place of a secret value: hex HMAC, and the index of the log entry whose salt opens it."""

    value: str
    entry: int


@dataclass(frozen=True, slots=True)
class Material:
    """One object that went into the model; `digest` is its SHA-256 (hex), or a commitment to it."""

    kind: str
    object_id: str
    digest: str | Commitment


@dataclass(frozen=True, slots=True)
class ApprovedBy:
    """One officer's approval: person, fingerprint of the key, and the request (hex) that was signed."""

    person: str
    fingerprint: str
    request: str


@dataclass(frozen=True, slots=True)
class ReceiptName:
    """A receipt in the folder: file name without suffix, index of its entry, action that it logged."""

    name: str
    index: int
    action: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """One model's provenance. `subjects` maps file name to SHA-256 (hex); FLOPs are counted."""

    subjects: Mapping[str, str]
    origin: str
    profile: str
    job: str
    object_id: str
    materials: tuple[Material, ...]
    code_version: str
    code_sha256: str
    backend: str
    kernels_sha256: str
    seed: int | Commitment
    steps: int | Commitment
    flops: int | Commitment
    approvals: tuple[ApprovedBy, ...]
    receipts: tuple[ReceiptName, ...]
    form: Form


def encode_lineage(lineage: Lineage) -> bytes:
    """Return the canonical bytes of `lineage/statement.json`."""
    names = sorted(lineage.subjects)
    check_member_names(names)
    return canonical.encode(
        {
            "_type": STATEMENT_TYPE,
            "predicateType": PREDICATE_TYPE,
            "subject": [{"name": name, "digest": {"sha256": lineage.subjects[name]}} for name in names],
            "predicate": {
                "format": FORMAT,
                "origin": lineage.origin,
                "profile": lineage.profile,
                "job": lineage.job,
                "object": lineage.object_id,
                "materials": [
                    {"kind": each.kind, "object": each.object_id, "sha256": _disclosed(each.digest)}
                    for each in lineage.materials
                ],
                "code": {"version": lineage.code_version, "sha256": lineage.code_sha256},
                "kernels": {"backend": lineage.backend, "sha256": lineage.kernels_sha256},
                "form": {"architecture": lineage.form.architecture, "rounding": lineage.form.rounding},
                "seed": _disclosed(lineage.seed),
                "steps": _disclosed(lineage.steps),
                "flops": _disclosed(lineage.flops),
                "approvals": [
                    {"person": each.person, "fingerprint": each.fingerprint, "request": each.request}
                    for each in lineage.approvals
                ],
                "receipts": [
                    {"name": each.name, "index": each.index, "action": each.action}
                    for each in lineage.receipts
                ],
            },
        }
    )


def parse_lineage(data: bytes) -> Lineage:
    """Parse a statement strictly; raise ContentRefused naming the field."""
    statement = canonical.Fields(canonical.parse(data, STATEMENT_NAME), STATEMENT_NAME)
    statement.constant("_type", STATEMENT_TYPE)
    statement.constant("predicateType", PREDICATE_TYPE)
    subjects = _parse_subjects(statement.array("subject", 4096))
    predicate = canonical.Fields(statement.take("predicate"), STATEMENT_NAME)
    statement.done()
    predicate.constant("format", FORMAT)
    code = canonical.Fields(predicate.take("code"), f"{STATEMENT_NAME}, code")
    kernels = canonical.Fields(predicate.take("kernels"), f"{STATEMENT_NAME}, kernels")
    form = canonical.Fields(predicate.take("form"), f"{STATEMENT_NAME}, form")
    lineage = Lineage(
        subjects=subjects,
        origin=predicate.text("origin"),
        profile=predicate.choice("profile", PROFILES),
        job=predicate.text("job"),
        object_id=predicate.match("object", _SHA256),
        materials=tuple(_parse_material(each) for each in predicate.array("materials", 4096)),
        code_version=code.text("version"),
        code_sha256=code.match("sha256", _SHA256),
        backend=kernels.text("backend"),
        kernels_sha256=kernels.match("sha256", _SHA256),
        seed=_parse_number(predicate, "seed"),
        steps=_parse_number(predicate, "steps"),
        flops=_parse_number(predicate, "flops"),
        approvals=tuple(_parse_approval(each) for each in predicate.array("approvals", 64)),
        receipts=tuple(_parse_receipt(each) for each in predicate.array("receipts", MAX_RECEIPTS)),
        form=Form(form.choice("architecture", ARCHITECTURES), form.choice("rounding", ROUNDINGS)),
    )
    for fields in (code, kernels, form, predicate):
        fields.done()
    if encode_lineage(lineage) != data:
        raise ContentRefused(
            f"{STATEMENT_NAME}: expected subjects sorted and each once, found them otherwise"
        )
    return lineage


def _disclosed(value: int | str | Commitment) -> canonical.JSON:
    if isinstance(value, Commitment):
        return {"commitment": value.value, "entry": value.entry}
    return str(value)


def _parse_disclosed(fields: canonical.Fields, name: str, pattern: re.Pattern[str]) -> str | Commitment:
    value = fields.take(name)
    if isinstance(value, str) and pattern.fullmatch(value):
        return value
    commitment = canonical.Fields(value, f"{STATEMENT_NAME}, {name}")
    found = Commitment(commitment.match("commitment", _SHA256), commitment.number("entry"))
    commitment.done()
    return found


def _parse_number(fields: canonical.Fields, name: str) -> int | Commitment:
    value = _parse_disclosed(fields, name, _NUMBER)
    return value if isinstance(value, Commitment) else int(value)


def _parse_subjects(values: Sequence[canonical.JSON]) -> dict[str, str]:
    subjects: dict[str, str] = {}
    for value in values:
        fields = canonical.Fields(value, f"{STATEMENT_NAME}, subject")
        digest = canonical.Fields(fields.take("digest"), f"{STATEMENT_NAME}, digest")
        subjects[fields.text("name")] = digest.match("sha256", _SHA256)
        fields.done()
        digest.done()
    return subjects


def _parse_material(value: canonical.JSON) -> Material:
    fields = canonical.Fields(value, f"{STATEMENT_NAME}, material")
    material = Material(
        fields.choice("kind", MATERIAL_KINDS),
        fields.match("object", _SHA256),
        _parse_disclosed(fields, "sha256", _SHA256),
    )
    fields.done()
    return material


def _parse_approval(value: canonical.JSON) -> ApprovedBy:
    fields = canonical.Fields(value, f"{STATEMENT_NAME}, approval")
    approval = ApprovedBy(fields.text("person"), fields.text("fingerprint"), fields.match("request", _SHA256))
    fields.done()
    return approval


def _parse_receipt(value: canonical.JSON) -> ReceiptName:
    fields = canonical.Fields(value, f"{STATEMENT_NAME}, receipt")
    receipt = ReceiptName(fields.match("name", _WORD), fields.number("index"), fields.text("action"))
    fields.done()
    return receipt
