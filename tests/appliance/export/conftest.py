"""An exported model folder, with a log of four entries built from the audit package's pure parts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.export.form import Form
from appliance.export.lineage import ApprovedBy, Commitment, Lineage, Material, ReceiptName
from appliance.export.model_folder import complete_folder
from appliance.export.signing import public_pem
from appliance.export.verify_model import Report, verify_model
from audit.checkpoint import TreeHead, sign_tree_head
from audit.entry import Decision, Record, encode_entry
from audit.merkle import inclusion_proof, leaf_hash, root
from audit.note import NoteSigner, VerifierKey
from audit.receipt import format_receipt

ORIGIN = "log.example/demo"
TIME = "2026-03-01T12:00:00.000000Z"
PAYLOAD = {
    "model.safetensors": b"weights " * 1000,
    "config.json": b'{"layers":2}',
    "tokenizer.json": b'{"kind":"bytes"}',
}


class SmallLog:
    """A log in memory that gives receipts."""

    def __init__(self, origin: str = ORIGIN, seed: int = 3) -> None:
        self.signer = NoteSigner(origin, bytes([seed]) * 32)
        self.entries: list[bytes] = []

    def append(self, action: str, *, allow: bool | None = True, kind: str = "decision") -> int:
        decision = None if allow is None else Decision(allow, ("permit",), "00" * 32)
        seq = len(self.entries)
        self.entries.append(
            encode_entry(Record(kind, "person:olga", action, "object:x", {}, decision), seq, TIME)
        )
        return seq

    def head(self, size: int = 0) -> bytes:
        leaves = self._leaves(size)
        return sign_tree_head(TreeHead(self.signer.name, len(leaves), root(leaves)), self.signer)

    def receipt(self, index: int, size: int = 0) -> tuple[bytes, bytes]:
        leaves = self._leaves(size)
        proof = inclusion_proof(
            index, len(leaves), lambda level, at: root(leaves[at << level : (at + 1) << level])
        )
        return format_receipt(index, proof, self.head(size)), self.entries[index]

    def _leaves(self, size: int) -> list[bytes]:
        return [leaf_hash(entry) for entry in self.entries[: size or len(self.entries)]]


@dataclass
class Exported:
    """The folder, its keys, and what it was made of."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    log: SmallLog
    lineage: Lineage
    receipts: dict[str, tuple[bytes, bytes]]
    tree_head: bytes
    closings: list[bytes] = field(default_factory=list)

    @property
    def log_key(self) -> VerifierKey:
        return self.log.signer.vkey

    @property
    def export_pub(self) -> bytes:
        return public_pem(self.key)

    def verify(self) -> Report:
        return verify_model(self.folder, self.log_key, self.export_pub)

    def write(self) -> None:
        """Write the folder anew from its parts, rightly signed whatever they say."""
        added = complete_folder("model", self.lineage, self.receipts, self.tree_head, self.key, self.closings)
        for name, data in {**PAYLOAD, **added}.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def restate(self, **changed: object) -> None:
        """Sign another lineage."""
        self.lineage = replace(self.lineage, **changed)
        self.write()


@pytest.fixture
def exported(tmp_path):
    log = SmallLog()
    log.append("init", allow=None, kind="genesis")
    train, export = log.append("train"), log.append("export")
    log.append("status")
    lineage = Lineage(
        form=Form(),
        subjects={name: hashlib.sha256(data).hexdigest() for name, data in PAYLOAD.items()},
        origin=ORIGIN,
        profile="development",
        job="job-1",
        object_id="ab" * 32,
        materials=(
            Material("corpus", "cd" * 32, "ef" * 32),
            Material("config", "01" * 32, Commitment("23" * 32, train)),
        ),
        code_version="0.1.0",
        code_sha256="45" * 32,
        backend="reference",
        kernels_sha256="67" * 32,
        seed=2**63 - 1,
        steps=300,
        flops=Commitment("89" * 32, train),
        approvals=(ApprovedBy("ann", "SHA256:aaa", "bc" * 32), ApprovedBy("bob", "SHA256:bbb", "bc" * 32)),
        receipts=(ReceiptName("train", train, "train"), ReceiptName("export", export, "export")),
    )
    receipts = {"train": log.receipt(train), "export": log.receipt(export)}
    key = ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())
    made = Exported(tmp_path / "model", key, log, lineage, receipts, log.head())
    made.write()
    return made
