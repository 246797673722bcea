"""Checks an exported model folder with two public keys: the export key's and the log's.

Guarantees to the auditor or recipient who gets a `Report`:
 1. the export key signed a list of files, in the one profile that is accepted     a forged or foreign list
 2. the folder holds exactly these files: regular, none missing, none besides       an added or hidden file
 3. each has the SHA-256 that was signed                                            a changed file
 4. the lineage statement parses, and its subjects are the signed files beside it   a swapped one
 5. the log's key signed the tree head, of the log that the statement names, or     another appliance's log
    a key that followed it, by the closing heads beside it
 6. each receipt proves its entry, at the index and with the action stated, and
    the logged decisions to train and to export were allowed                        a denied export
Still owed: that the tree head belongs to the log as it is now (`python -m audit verify`), and that what the
appliance states is what it did. Sources: docs/formats/model-signature.md; C2SP tlog-proof.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ContentRefused, Incomplete, IntegrityError, MediumMissing, SignatureError
from appliance.export.form import INCLUDED
from appliance.export.lineage import FOLDER, STATEMENT_NAME, TREE_HEAD_NAME, Lineage, parse_lineage
from appliance.export.model_folder import epoch_name
from appliance.export.signing import (
    MAX_FILES,
    MAX_SIGNATURE_BYTES,
    SIGNATURE_NAME,
    SignedModel,
    verify_model_signature,
)
from audit.checkpoint import TreeHead, verify_tree_head
from audit.epoch import Chain
from audit.errors import AuditError, BadSignature, CouldNotCheck, Malformed
from audit.keys import LogKeys
from audit.receipt import verify_receipt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.export.lineage import ReceiptName
    from audit.note import VerifierKey

# Decisions without which no model leaves an appliance.
REQUIRED_ACTIONS = ("train", "export")
MAX_LINEAGE_BYTES = 1 << 20

_READ_BYTES = 1 << 20
_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked: the signed name, files by SHA-256, the lineage, and the log's head at export."""

    model: str
    files: Mapping[str, str]
    lineage: Lineage
    tree_head: TreeHead


def verify_model(folder: Path, log_key: VerifierKey, export_pub: bytes) -> Report:
    """Run the numbered checks over a model folder that holds its own `model.sig`.

    Raises MediumMissing, Incomplete, ContentRefused, IntegrityError, SignatureError; nothing else passes.
    """
    if not folder.is_dir():
        raise MediumMissing(
            f"expected a model folder at {folder}, found none; name the folder with {SIGNATURE_NAME}"
        )
    signature = _read_small(folder, SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
    signed = verify_model_signature(signature, export_pub)
    kept = _verify_folder(folder, signed)
    lineage = _verify_statement(kept, signed)
    try:
        chain = _follow_keys(kept, log_key)
        head = _verify_head(kept, lineage, chain.keys)
        _verify_receipts(kept, lineage, head, chain)
    except BadSignature as error:
        raise SignatureError(f"lineage: {error}") from error
    except Malformed as error:
        raise ContentRefused(f"lineage: {error}") from error
    except CouldNotCheck as error:
        raise Incomplete(f"lineage: {error}") from error
    except AuditError as error:
        raise IntegrityError(f"lineage: {error}") from error
    return Report(signed.name, signed.digests, lineage, head)


def _verify_folder(folder: Path, signed: SignedModel) -> dict[str, bytes]:
    """Check steps 2 and 3; return the bytes that were hashed of the files under `lineage/`."""
    found = _list_files(folder)
    found.discard(SIGNATURE_NAME)
    expected = set(signed.digests)
    if missing := sorted(expected - found):
        raise Incomplete(f"model: expected the file {missing[0]} that was signed, found none; copy it again")
    if surplus := sorted(found - expected):
        raise ContentRefused(f"model: expected only signed files, found {surplus[0]}; remove it")
    kept: dict[str, bytes] = {}
    for name, expected_digest in signed.digests.items():
        if name.startswith(f"{FOLDER}/"):
            kept[name] = _read_small(folder, name, MAX_LINEAGE_BYTES)
            digest = hashlib.sha256(kept[name]).hexdigest()
        else:
            digest = _hash_file(folder, name)
        if digest != expected_digest:
            raise IntegrityError(
                f"{name}: expected SHA-256 {expected_digest} as signed, found {digest}; it was changed"
            )
    return kept


def _verify_statement(kept: Mapping[str, bytes], signed: SignedModel) -> Lineage:
    lineage = parse_lineage(_kept(kept, STATEMENT_NAME))
    expected = {name: digest for name, digest in signed.digests.items() if not name.startswith(f"{FOLDER}/")}
    if dict(lineage.subjects) != expected:
        raise IntegrityError(
            f"{STATEMENT_NAME}: expected the signed files as its subjects, found others; it is of another"
            " model"
        )
    if ("config.json" in lineage.subjects) != (lineage.form.architecture == INCLUDED):
        raise IntegrityError(
            f"{STATEMENT_NAME}: expected config.json if, and only if, the architecture is included, "
            f"found architecture {lineage.form.architecture}"
        )
    return lineage


def _follow_keys(kept: Mapping[str, bytes], log_key: VerifierKey) -> Chain:
    """Follow the closings in the folder from the log's first key to the newest."""
    chain = Chain(LogKeys.of(log_key))
    while (closing := kept.get(f"{FOLDER}/{epoch_name(len(chain.closings))}.tlog-proof")) is not None:
        chain = chain.closed_by(closing)
    return chain


def _verify_head(kept: Mapping[str, bytes], lineage: Lineage, keys: LogKeys) -> TreeHead:
    head = verify_tree_head(_kept(kept, TREE_HEAD_NAME), keys)
    if head.origin != lineage.origin:
        raise IntegrityError(
            f"{STATEMENT_NAME}: expected the log {head.origin}, found it names {lineage.origin}"
        )
    return head


def _verify_receipts(kept: Mapping[str, bytes], lineage: Lineage, head: TreeHead, chain: Chain) -> None:
    allowed = {_verify_one(kept, receipt, head, chain.keys) for receipt in lineage.receipts}
    for action in REQUIRED_ACTIONS:
        if action not in allowed:
            raise Incomplete(f"lineage: expected a receipt of the decision to {action}, found none")
    names = [receipt.name for receipt in lineage.receipts]
    named = {
        f"{FOLDER}/{name}{suffix}"
        for name in [*names, *(epoch_name(n) for n in range(len(chain.closings)))]
        for suffix in (".tlog-proof", ".entry")
    }
    if surplus := sorted(set(kept) - named - {STATEMENT_NAME, TREE_HEAD_NAME}):
        raise ContentRefused(
            f"{surplus[0]}: expected only files that the statement names, found this one besides"
        )


def _verify_one(kept: Mapping[str, bytes], receipt: ReceiptName, head: TreeHead, keys: LogKeys) -> str:
    """Check one receipt; return its action if the entry is a decision that allowed it, else nothing."""
    where = f"{FOLDER}/{receipt.name}"
    proof, entry = _kept(kept, f"{where}.tlog-proof"), _kept(kept, f"{where}.entry")
    shown = verify_receipt(proof, entry, keys)
    if (shown.index, shown.entry.action) != (receipt.index, receipt.action):
        raise IntegrityError(
            f"{where}: expected entry {receipt.index}, action {receipt.action}, as the statement says,"
            f" found entry {shown.index}, action {shown.entry.action}"
        )
    if shown.head.size > head.size or (shown.head.size == head.size and shown.head.root != head.root):
        raise IntegrityError(
            f"{where}: expected a receipt under the tree head of {head.size} entries in {TREE_HEAD_NAME},"
            f" found one under another of {shown.head.size}; the log was forked or the receipt came later"
        )
    decision = shown.entry.decision
    if decision is not None and not decision.allow:
        raise IntegrityError(
            f"{where}: expected a decision that allowed {receipt.action}, found one that denied it"
        )
    return receipt.action if decision is not None else ""


def _list_files(folder: Path) -> set[str]:
    """Return relative names of all files; raise ContentRefused for links, special and hidden files."""
    found: set[str] = set()
    waiting = [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            mode = path.lstat().st_mode
            name = path.relative_to(folder).as_posix()
            if path.name.startswith("."):
                raise ContentRefused(f"model: expected no hidden files, found {name}; remove it")
            if stat.S_ISDIR(mode):
                waiting.append(path)
            elif stat.S_ISREG(mode):
                found.add(name)
            else:
                raise ContentRefused(
                    f"model: expected regular files only, found {name}, a link or special file"
                )
            if len(found) + len(waiting) > MAX_FILES:
                raise ContentRefused(f"model: expected at most {MAX_FILES} files, found more")
    return found


def _open(folder: Path, name: str) -> int:
    try:
        return os.open(folder / name, _OPEN_FLAGS)
    except FileNotFoundError as error:
        raise Incomplete(f"model: expected the file {name}, found none; copy the folder again") from error
    except OSError as error:
        raise ContentRefused(f"{name}: expected a regular file that can be read, found none") from error


def _read_small(folder: Path, name: str, max_bytes: int) -> bytes:
    with os.fdopen(_open(folder, name), "rb") as source:
        data = source.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ContentRefused(f"{name}: expected at most {max_bytes} bytes, found more")
    return data


def _hash_file(folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    with os.fdopen(_open(folder, name), "rb", buffering=0) as source:
        while block := source.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _kept(kept: Mapping[str, bytes], name: str) -> bytes:
    if name not in kept:
        raise Incomplete(f"lineage: expected the file {name}, found none; export the model again")
    return kept[name]
