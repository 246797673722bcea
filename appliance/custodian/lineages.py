"""The lineage files of one export: the statement, the receipts it names, and their tree head."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from appliance import __version__
from appliance.catalog import Object
from appliance.code import code_digest
from appliance.custodian.approvals import Approved
from appliance.custodian.core import Core
from appliance.errors import IntegrityError
from appliance.export.form import Form
from appliance.export.lineage import (
    MATERIAL_KINDS,
    MAX_RECEIPTS,
    ApprovedBy,
    Commitment,
    Lineage,
    Material,
    ReceiptName,
)
from appliance.export.model_folder import MODEL_FOLDER, complete_folder
from appliance.gate import Allowed
from audit.entry import Entry, parse_entry

BACKEND = "reference"
_ROOM_FOR_EXPORT = 16


def lineage_files(
    core: Core,
    weights: Object,
    approved: Approved,
    decided: Allowed,
    digests: Mapping[str, str],
    key: EllipticCurvePrivateKey,
) -> dict[str, bytes]:
    """Return the lineage files and `model.sig` by name; `digests` are those of the model's own files."""
    indexes = _indexes(core, weights, approved, decided)
    receipts: dict[str, tuple[bytes, bytes]] = {}
    names: list[ReceiptName] = []
    for index in indexes:
        committed = core.gate.receipt_of(index)
        entry = parse_entry(committed.entry)
        name = f"{entry.action}-{index}"
        names.append(ReceiptName(name, index, entry.action))
        receipts[name] = (committed.receipt, committed.entry)
    head = core.log.tree_head()
    created = parse_entry(core.log.entry(weights.log_index))
    lineage = Lineage(
        subjects=dict(digests),
        origin=core.facts.origin,
        profile=core.facts.profile,
        job=weights.job,
        object_id=weights.id,
        materials=tuple(_material(core, parent) for parent in weights.parents if _counts(core, parent)),
        code_version=__version__,
        code_sha256=code_digest(),
        backend=BACKEND,
        kernels_sha256=code_digest(("kernels",)),
        seed=_commitment(created, "seed", weights.log_index),
        steps=_commitment(created, "steps", weights.log_index),
        flops=_commitment(created, "flops", weights.log_index),
        approvals=tuple(
            ApprovedBy(approval.person, approval.key_fingerprint, approval.request_id)
            for approval in approved.approvals
        ),
        receipts=tuple(names),
        form=Form.of(approved.request.options),
    )
    return complete_folder(MODEL_FOLDER, lineage, receipts, head, key, core.log.epochs.kept())


def _indexes(core: Core, weights: Object, approved: Approved, decided: Allowed) -> list[int]:
    """Return the entries that tell the model's story: its run's decisions and grants, approvals, export."""
    folder = core.home.jobs / weights.job
    kept = sorted(int(path.stem) for path in folder.glob("*.entry"))
    told = [index for index in kept if parse_entry(core.log.entry(index)).action in ("train", "use")]
    approvals = [row.log_index for row in core.catalog.approvals(approved.request.id)]
    last = {weights.log_index, *approvals, decided.grant.index}
    return sorted({*told[: MAX_RECEIPTS - _ROOM_FOR_EXPORT], *last})


def _counts(core: Core, parent: str) -> bool:
    return core.catalog.get(parent).kind in MATERIAL_KINDS


def _material(core: Core, parent: str) -> Material:
    row = core.catalog.get(parent)
    created = parse_entry(core.log.entry(row.log_index))
    return Material(row.kind, row.id, _commitment(created, "plaintext_sha256", row.log_index))


def _commitment(entry: Entry, name: str, index: int) -> Commitment:
    """Return the commitment that a creation entry holds; raises IntegrityError where it holds none."""
    held = entry.context.get(name)
    if not isinstance(held, Mapping) or not isinstance(held.get("commitment"), str):
        raise IntegrityError(f"log entry {index} commits to no {name}: this object cannot show its lineage")
    return Commitment(str(held["commitment"]), index)
