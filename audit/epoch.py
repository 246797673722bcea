"""Epochs of a log's key: how a verifier with the first public key comes to the newest one.

Guarantees whoever follows the chain that each key was named by an entry of kind `log-key`, and that the key
before it signed a head over exactly the entries up to that one. That closing head is kept for good:

    epoch/<n>.tlog-proof    receipt of the entry that ends epoch n, under its closing head; `extra` holds it

So a closing needs nothing beside it but the keys before it. Source: docs/formats/audit-log.md, "Epochs of the
key"; C2SP tlog-proof.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.checkpoint import TreeHead
from audit.entry import JSON, Entry, Record
from audit.errors import AuditError, Invalid, Malformed
from audit.folder import EPOCHS, Folder
from audit.keys import LogKeys
from audit.note import VerifierKey
from audit.receipt import MAX_RECEIPT_BYTES, format_receipt, parse_receipt, verify_receipt

KIND = "log-key"
ACTION = "rotate-key"
MAX_EPOCHS = 1000
_FIELDS = ("vkey", "pq_vkey")


@dataclass(frozen=True, slots=True)
class Chain:
    """The keys of a log, the heads that closed its epochs, and the newest of those as a signed note."""

    keys: LogKeys
    closings: tuple[TreeHead, ...] = ()
    note: bytes = b""

    @property
    def end(self) -> int:
        """How many entries the closed epochs have."""
        return self.closings[-1].size if self.closings else 0

    def closed_by(self, closing: bytes) -> Chain:
        """Return the chain with one epoch more; raises Malformed, BadSignature, Invalid.

        1. the receipt verifies under the keys so far, none of them beyond its time; 2. its entry is the last
        one under its head; 3. that entry names the next keys, for the next epoch, none of them used before.
        """
        receipt = parse_receipt(closing)
        if receipt.extra is None:
            raise Malformed("closing head: expected its entry in the line 'extra', found no such line")
        shown = verify_receipt(closing, receipt.extra, self.keys)
        if shown.entry.kind != KIND or shown.index + 1 != shown.head.size:
            raise Invalid(
                f"closing head: expected a {KIND} entry as the last of {shown.head.size}, found entry "
                f"{shown.index} of kind {shown.entry.kind}"
            )
        epoch = named_keys(shown.entry, len(self.closings) + 1)[: len(self.keys.newest)]
        keys = self.keys.then(shown.head.size, epoch)
        return Chain(keys, (*self.closings, shown.head), receipt.note)


def key_record(
    keys: Sequence[VerifierKey], epoch: int, principal: str, resource: str, context: Mapping[str, JSON]
) -> Record:
    """Make the record by which the old key names the next: `epoch` is the number of the one that begins."""
    named = dict(zip(_FIELDS, (key.text for key in keys), strict=False))
    return Record(KIND, principal, ACTION, resource, {**context, "epoch": epoch, **named})


def named_keys(entry: Entry, epoch: int) -> tuple[VerifierKey, ...]:
    """Return the keys that a `log-key` entry names for the epoch expected; raises Invalid, Malformed."""
    if entry.context.get("epoch") != epoch:
        raise Invalid(
            f"entry {entry.seq}: expected the key of epoch {epoch}, found {entry.context.get('epoch')!r}"
        )
    texts = [entry.context.get(name, "") for name in _FIELDS]
    return tuple(VerifierKey.parse(str(text)) for n, text in enumerate(texts) if text or not n)


def make_closing(entry: bytes, receipt: bytes) -> bytes:
    """Write a closing: the receipt of the entry that ends an epoch, with that entry in it."""
    parsed = parse_receipt(receipt)
    return format_receipt(parsed.index, parsed.proof, parsed.note, entry)


def closing_path(epoch: int) -> str:
    """Name the file, below the log's folder, that closes an epoch; they count from 0."""
    return f"{EPOCHS}/{epoch}.tlog-proof"


def read_chain(folder: Folder, keys: VerifierKey | LogKeys) -> Chain:
    """Follow a log's closings from its first keys; raises Malformed, BadSignature, Invalid, CouldNotCheck."""
    return extend_chain(folder, Chain(LogKeys.of(keys)))


def extend_chain(folder: Folder, chain: Chain) -> Chain:
    """Follow the closings that were added since; raises as `read_chain` does."""
    while True:
        path = closing_path(len(chain.closings))
        closing = folder.read_if_present(path, MAX_RECEIPT_BYTES)
        if closing is None:
            return chain
        if len(chain.closings) == MAX_EPOCHS:
            raise Malformed(f"{folder.path / path}: expected at most {MAX_EPOCHS} epochs of a log's key")
        try:
            chain = chain.closed_by(closing)
        except AuditError as failure:
            raise type(failure)(f"{folder.path / path}: {failure}") from failure
