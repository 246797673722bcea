"""The auditor's check of a whole log: nothing is taken from whoever keeps it but bytes.

Guarantees whoever holds the log's public key that a folder which passes is exactly one log: every entry and
every hash of every tile leads to the root that the key signed, superseded partial tiles included, and nothing
else lies between them. Memory is flat: one tile a level, one bundle of entries. The checks, what they stop:

    1. the folder holds nothing that a log does not have      planted files
    2. `checkpoint` is signed by the given key, for its log,  forged or foreign head; a retired key beyond its
       or by one that followed it, for the sizes of its time  end, a newer one over older entries
    3. entries, bundle by bundle: hashed, well formed, in     flipped bytes, swapped, removed or added entries
       sequence; each tile equals the hashes so computed
    4. each entry that names a key is the last one under the  entries that no key of their time signed
       closing head of an epoch, and each closing has one
    5. the heads of the receipts given lie on this history    a fork, a folder set back to before a receipt
    6. so does the head in `witnessed`, and as many of the    the same, even where the log's key was stolen
       given witnesses cosigned it as are demanded            after that head
    7. the root equals the signed one                         a removed tail, a rewritten history
    8. no tile and no closing is beyond the signed size       leftovers of a longer log set back

KNOWN: a whole folder set back to an earlier, self-consistent state passes, unless a receipt from after that
moment is brought along, or the log is shown to a witness who saw more.
Source: C2SP tlog-tiles v0.1.0, RFC 6962 section 2.1.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from audit.checkpoint import TreeHead, verify_tree_head
from audit.cosignature import Cosignature, demand_quorum
from audit.entry import Entry, parse_entry
from audit.epoch import KIND, MAX_EPOCHS, Chain, closing_path, extend_chain
from audit.errors import AuditError, CouldNotCheck, Invalid, Malformed
from audit.folder import (
    CHECKPOINT,
    EPOCHS,
    INCOMING,
    LOCK,
    PQ_VKEY,
    RESERVE,
    TILES,
    VKEY,
    WAL,
    WITNESSED,
    Folder,
)
from audit.keys import LogKeys
from audit.merkle import leaf_hash
from audit.note import MAX_NOTE_BYTES, VerifierKey
from audit.receipt import VerifiedReceipt, verify_receipt
from audit.restore import Continued, continued_by
from audit.store import is_covered, read_bundle, read_tile
from audit.tiles import HEIGHT, MAX_BUNDLE_BYTES, WIDTH, Tile, count_at, encode_bundle
from audit.tree import Tree

__all__ = ["Report", "verify_log", "verify_receipt"]

# Known names beside the public files. They are the writer's own; an auditor's copy may lack them.
PRIVATE_NAMES = {WAL, LOCK, RESERVE, VKEY, PQ_VKEY, INCOMING}

# Tuning: a log that is being written names its newest tiles in a head within a second; wait for that one.
PATIENCE_S = 2.0
_PAUSE_S = 0.02

# Tuning: bounds on what a hostile folder can make the verifier hold.
_MAX_KINDS = 256
_MAX_BEYOND = 4096
_MAX_DEPTH = 9  # tile / level / up to six groups / partials


@dataclass(slots=True)
class Report:
    """What was verified: the signed head and its note, entries by kind and decision, times, files, keys."""

    head: TreeHead
    note: bytes = b""
    kinds: Counter[str] = field(default_factory=Counter)
    allowed: int = 0
    denied: int = 0
    first_time: str = ""
    last_time: str = ""
    tiles: int = 0
    partials: int = 0
    receipts: int = 0
    signers: tuple[VerifierKey, ...] = ()
    epochs: tuple[int, ...] = (0,)
    continues: Continued | None = None
    witnessed: TreeHead | None = None
    witnessed_note: bytes = b""
    cosignatures: tuple[Cosignature, ...] = ()

    @property
    def size(self) -> int:
        """How many entries were verified."""
        return self.head.size

    @property
    def root(self) -> bytes:
        """The signed root, 32 bytes."""
        return self.head.root

    def add(self, data: bytes, index: int) -> Entry:
        """Count one entry after checking its form and place, and return it; raises Malformed, Invalid."""
        try:
            entry = parse_entry(data)
        except Malformed as failure:
            raise Malformed(f"entry {index}: {failure}") from failure
        if entry.seq != index:
            raise Invalid(f"entry {index}: calls itself {entry.seq}; entries were swapped, removed or added")
        if index == 0:
            self.continues = continued_by(entry)
        known = entry.kind in self.kinds or len(self.kinds) < _MAX_KINDS
        self.kinds[entry.kind if known else "(other)"] += 1
        if entry.decision is not None:
            self.allowed += entry.decision.allow
            self.denied += not entry.decision.allow
        self.first_time = self.first_time or entry.time
        self.last_time = entry.time
        return entry


def verify_log(
    directory: Path,
    keys: VerifierKey | LogKeys,
    origin: str | None = None,
    receipts: Sequence[VerifiedReceipt] = (),
    observe: Callable[[Entry], None] | None = None,
    witnesses: Sequence[VerifierKey] = (),
    quorum: int = 0,
) -> Report:
    """Check a log's folder as the module's list says; safe while the log is being written to.

    `keys` are the log's first: those that followed are taken from the log, on the word of the one before.
    `origin` names the log expected, where the key's name is not enough. `observe` is told each entry once, in
    order, as it is read: what it made of them counts only if this returns. `quorum` of the `witnesses` must
    have cosigned the head in `witnessed`. Raises Malformed, BadSignature, Invalid; CouldNotCheck for what is
    missing or unreadable.
    """
    with Folder(directory) as folder:
        check = _Check(folder, keys, receipts, observe)
        head = check.read_head()
        if origin is not None and head.origin != origin:
            raise Invalid(f"{directory}: expected the log {origin}, found {head.origin}")
        check.read_witnessed(witnesses, quorum)
        check.extend(head)
        beyond = check.files_beyond()
        deadline = time.monotonic() + PATIENCE_S
        while not check.is_settled(beyond) and time.monotonic() < deadline:
            check.extend(check.read_head())
            time.sleep(_PAUSE_S)
        check.demand_covered(beyond)
        check.demand_no_newer_receipt()
        return check.report


class _Check:
    """One pass over a log: `tree` and `report` hold what was verified so far."""

    def __init__(
        self,
        folder: Folder,
        keys: VerifierKey | LogKeys,
        receipts: Sequence[VerifiedReceipt],
        observe: Callable[[Entry], None] | None,
    ) -> None:
        self._folder = folder
        self._chain = Chain(LogKeys.of(keys))
        self._closings: dict[int, TreeHead] = {}
        self._observe = observe
        self._note = b""
        self._tree = Tree()
        self._heads = _in_order(receipt.head for receipt in receipts)
        nothing = TreeHead(self._chain.keys.name, 0, self._tree.root())
        self.report = Report(nothing, receipts=len(receipts))
        for entry in folder.names():
            if entry.name not in {CHECKPOINT, TILES, EPOCHS, WITNESSED, *PRIVATE_NAMES}:
                raise Invalid(f"{folder.path / entry.name}: unexpected file in the folder of a log")

    def read_head(self) -> TreeHead:
        """Read the newest head, then the closings: those that it depends on were there before it."""
        self._note = self._folder.read(CHECKPOINT, MAX_NOTE_BYTES)
        self._read_closings()
        try:
            return verify_tree_head(self._note, self._chain.keys)
        except AuditError as failure:
            raise type(failure)(f"{self._folder.path / CHECKPOINT}: {failure}") from failure

    def read_witnessed(self, witnesses: Sequence[VerifierKey], quorum: int) -> None:
        """Read the head that witnesses cosigned: it is to lie on this history, as those of receipts are."""
        note = self._folder.read_if_present(WITNESSED, MAX_NOTE_BYTES)
        if note is None:
            if quorum:
                raise CouldNotCheck(
                    f"{self._folder.path / WITNESSED}: expected a head that {quorum} witnesses cosigned, "
                    "found none; the log was never witnessed, or the copy is not complete"
                )
            return
        try:
            head = verify_tree_head(note, self._chain.keys)
            self.report.cosignatures = demand_quorum(note, witnesses, quorum)
        except AuditError as failure:
            raise type(failure)(f"{self._folder.path / WITNESSED}: {failure}") from failure
        self.report.witnessed, self.report.witnessed_note = head, note
        self._heads = _in_order([*self._heads, head])

    def _read_closings(self) -> None:
        names = {entry.name for entry in islice(self._folder.names(EPOCHS), MAX_EPOCHS + 1)}
        self._chain = extend_chain(self._folder, self._chain)
        self._closings = {head.size: head for head in self._chain.closings}
        for name in sorted(names - {closing_path(n).partition("/")[2] for n in range(len(self._closings))}):
            raise Invalid(
                f"{self._folder.path / EPOCHS / name}: unexpected file among the {len(self._closings)} heads "
                "that closed epochs, one for each key but the newest"
            )

    def extend(self, head: TreeHead) -> None:
        """Verify entries and tiles from what was verified so far up to a head."""
        while self._tree.size < head.size:
            self._check_bundle(self._tree.size // WIDTH, head.size)
        for level in range(HEIGHT):
            hashes = self._tree.edge(level)
            if hashes:
                self._check_tile(Tile(level, count_at(head.size, level) // WIDTH, len(hashes)), hashes)
        if (self._tree.size, self._tree.root()) != (head.size, head.root):
            raise Invalid(
                f"{self._folder.path}: expected {head.size} entries with root {head.root.hex()}, as signed, "
                f"found {self._tree.size} with root {self._tree.root().hex()}: rewritten or set back",
            )
        self.report.head, self.report.note = head, self._note
        ends = tuple(end for end in self._closings if end <= head.size)
        self.report.epochs = (0, *ends)
        self.report.signers = self._chain.keys.at(head.size)

    def is_settled(self, beyond: Sequence[Tile]) -> bool:
        """Tell whether the verified head covers every file and receipt."""
        reached = not self._heads and self._chain.end <= self.report.size
        return reached and all(is_covered(tile, self.report.size) for tile in beyond)

    def files_beyond(self) -> list[Tile]:
        """Judge the name of every file under `tile/`; lists those that the verified head does not cover."""
        beyond: list[Tile] = []
        for path in self._walk(TILES, 1):
            try:
                tile = Tile.parse(path)
            except Malformed as failure:
                raise Invalid(f"{self._folder.path / path}: unexpected file among the tiles") from failure
            if not is_covered(tile, self.report.size):
                beyond.append(tile)
                if len(beyond) > _MAX_BEYOND:
                    break
        return beyond

    def demand_covered(self, beyond: Sequence[Tile]) -> None:
        if self._chain.end > self.report.size:
            raise Invalid(
                f"{self._folder.path / EPOCHS}: a key's time ended at {self._chain.end} entries, beyond the "
                f"{self.report.size} signed entries: the log was set back, or publishing cut short (then "
                "start it once)",
            )
        for tile in beyond:
            if not is_covered(tile, self.report.size):
                raise Invalid(
                    f"{self._folder.path / tile.path}: unexpected file beyond the {self.report.size} "
                    f"signed entries: the log was set back, or publishing cut short (then start it once)",
                )

    def demand_no_newer_receipt(self) -> None:
        if self._heads:
            raise Invalid(
                f"{self._whose(self._heads[0])}: expected a head of at most {self.report.size} entries, "
                f"found {self._heads[0].size}: the log was set back (if it is seconds old: verify again)",
            )

    def _check_bundle(self, number: int, size: int) -> None:
        width = min(WIDTH, size - number * WIDTH)
        entries = read_bundle(self._folder, Tile(None, number, width))
        self.report.tiles += 1
        hashes = [leaf_hash(entry) for entry in entries]
        known = len(self._tree.edge(0))
        if hashes[:known] != self._tree.edge(0):
            raise Invalid(f"{Tile(None, number, width).path}: entries changed while they were read")
        self._check_partials(Tile(None, number), width, lambda count: encode_bundle(entries[:count]))
        for index in range(known, width):
            entry = self.report.add(entries[index], number * WIDTH + index)
            if self._observe is not None:
                self._observe(entry)
            for tile, filled in self._tree.append(hashes[index]):
                self._check_tile(tile, filled)
            if entry.kind == KIND or self._tree.size in self._closings:
                self._check_closing(index + number * WIDTH)
            self._check_receipts()

    def _check_tile(self, tile: Tile, hashes: Sequence[bytes]) -> None:
        found = read_tile(self._folder, tile)
        self.report.tiles += 1
        if found != hashes:
            wrong = next(i for i in range(tile.width) if found[i] != hashes[i])
            raise Invalid(
                f"{self._folder.path / tile.path}: expected hash {hashes[wrong].hex()} at {wrong}, from the "
                f"entries, found {found[wrong].hex()}; an entry or the tile was changed",
            )
        full = Tile(tile.level, tile.number)
        self._check_partials(full, tile.width, lambda count: b"".join(hashes[:count]))

    def _check_partials(self, full: Tile, width: int, expected: Callable[[int], bytes]) -> None:
        """Compare the partial files of a tile that are no wider than it: all must be its beginnings."""
        for entry in self._folder.names(full.partials_path):
            path = f"{full.partials_path}/{entry.name}"
            try:
                count = Tile.parse(path).width
            except Malformed as failure:
                raise Invalid(f"{self._folder.path / path}: unexpected file among the tiles") from failure
            if count > width:
                continue  # beyond this head: `files_beyond` judges it
            data = self._folder.read_if_present(path, MAX_BUNDLE_BYTES)
            if data is None:
                continue  # replaced by a full tile while we read
            if data != expected(count):
                raise Invalid(
                    f"{self._folder.path / path}: expected the first {count} of its tile, found others"
                )
            self.report.partials += 1

    def _check_closing(self, index: int) -> None:
        """Hold an entry that names a key, or should, against the head that closed its epoch."""
        head = self._closings.get(index + 1)
        if head is None:
            raise Invalid(
                f"entry {index}: names a key, but no closing head over it is in {EPOCHS}/: whether the key "
                "before it ever said so is not known; restore that file",
            )
        if head.root != self._tree.root():
            raise Invalid(
                f"entry {index}: expected root {head.root.hex()}, as signed when the key's time ended, found "
                f"{self._tree.root().hex()}: two histories, keep both as evidence",
            )

    def _check_receipts(self) -> None:
        while self._heads and self._heads[0].size == self._tree.size:
            head = self._heads.popleft()
            if head.root != self._tree.root():
                raise Invalid(
                    f"{self._whose(head)}: its head of {head.size} entries has root {head.root.hex()}, this "
                    f"log had {self._tree.root().hex()}: two histories under one key, keep both as evidence",
                )

    def _whose(self, head: TreeHead) -> str:
        return WITNESSED if head == self.report.witnessed else "receipt"

    def _walk(self, name: str, depth: int) -> Iterator[str]:
        """Yield the paths of all plain files below a folder, one open folder a level."""
        for entry in self._folder.names(name):
            path = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False) and depth < _MAX_DEPTH:
                yield from self._walk(path, depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield path
            else:
                raise Invalid(
                    f"{self._folder.path / path}: expected only plain files and folders among the tiles"
                )


def _in_order(heads: Iterable[TreeHead]) -> deque[TreeHead]:
    return deque(sorted({head for head in heads if head.size}, key=lambda head: head.size))
