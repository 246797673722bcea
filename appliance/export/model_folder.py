"""What the custodian adds to a model folder: the lineage and the signature over everything.

Guarantees to the custodian: given digests of the files that a worker will stream (`model.safetensors`,
`config.json`, `tokenizer.json`), what is returned completes a folder that `verify_model` and the public
`model_signing verify key` accept; the custodian itself never reads the model.
Source: docs/formats/model-signature.md.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from appliance.errors import ContentRefused
from appliance.export.lineage import FOLDER, STATEMENT_NAME, TREE_HEAD_NAME, Lineage, encode_lineage
from appliance.export.signing import SIGNATURE_NAME, sign_model
from audit.receipt import parse_receipt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

# The folder's name inside a bundle; a name in the signature is for people, verifiers ignore it.
MODEL_FOLDER = "model"


def epoch_name(epoch: int) -> str:
    """Name the closing of an epoch of the log's key, as receipts are named; no action has this name."""
    return f"epoch-{epoch}"


def complete_folder(
    name: str,
    lineage: Lineage,
    receipts: Mapping[str, tuple[bytes, bytes]],
    tree_head: bytes,
    key: EllipticCurvePrivateKey,
    closings: Sequence[bytes] = (),
) -> dict[str, bytes]:
    """Return the files to add, by path in the folder: those under `lineage/`, and `model.sig` over all.

    The model's own files are `lineage.subjects`; `receipts` maps each receipt's name to (proof, entry);
    `closings` are the log's, so that its first key is enough to verify them. Raises ContentRefused if the
    statement names other receipts.
    """
    named = {receipt.name for receipt in lineage.receipts}
    if named != set(receipts):
        raise ContentRefused(f"lineage: expected receipts {sorted(named)}, found {sorted(receipts)}")
    files = {STATEMENT_NAME: encode_lineage(lineage), TREE_HEAD_NAME: tree_head}
    epochs = {epoch_name(n): (data, parse_receipt(data).extra or b"") for n, data in enumerate(closings)}
    for receipt, (proof, entry) in {**receipts, **epochs}.items():
        files[f"{FOLDER}/{receipt}.tlog-proof"] = proof
        files[f"{FOLDER}/{receipt}.entry"] = entry
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    files[SIGNATURE_NAME] = sign_model(name, {**lineage.subjects, **digests}, key)
    return files
