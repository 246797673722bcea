"""One commit: a group of entries on its way to the disk, and to its receipts.

Guarantees that a receipt is made only of a tree head that was signed after the group was on the disk, and
that its proof leads to that head's root. While the disk's thread waits for the disk, the caller's works out
the tree to come and the proofs in it; neither counts before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

from audit.disk import Disk, _Abandoned
from audit.errors import Invalid
from audit.group import Committed
from audit.merkle import newest_proofs
from audit.receipt import format_receipt
from audit.store import Store
from audit.wal import WriteAhead

Sign = Callable[[int, bytes], bytes]


class _Growth(NamedTuple):
    store: Store
    root: bytes
    proofs: list[list[bytes]]


class Commit:
    """A group to be committed once; `reached` is the log's tree and signed head, before or after it."""

    def __init__(
        self, store: Store, note: bytes, wal: WriteAhead, sign: Sign, entries: Sequence[bytes]
    ) -> None:
        self.reached = (store, note)
        self._first = store.tree.size
        self._wal = wal
        self._sign = sign
        self._entries = entries
        self._growths: SimpleQueue[_Growth | None] = SimpleQueue()

    def run(self, disk: Disk) -> list[Committed]:
        """Commit and make the receipts; raises OSError, LogUnavailable, Invalid."""
        try:
            note, proofs = disk.run(lambda: self._write(disk.waits), self._grow)
        finally:
            self._growths.put(None)  # where nothing was worked out, the disk's thread does not wait for it
        return [
            Committed(index, entry, format_receipt(index, proof, note))
            for index, (entry, proof) in enumerate(zip(self._entries, proofs, strict=True), self._first)
        ]

    def _grow(self) -> None:
        """Work out the tree to come, in the caller's thread."""
        store = self.reached[0].copy()
        for entry in self._entries:
            store.append(entry)
        proofs, root = newest_proofs(self._first, store.tree.size, store.subtree)
        if root != store.tree.root():
            raise Invalid(
                "the proofs of a group do not lead to its root: a tile in memory or on disk differs"
            )
        self._growths.put(_Growth(store, root, proofs))

    def _write(self, waits: Callable[[], object]) -> tuple[bytes, list[list[bytes]]]:
        """Write and sign, in the disk's thread; the module `audit.log` says what a crash leaves."""
        self._wal.check()
        self._wal.append_group(self._first, self._entries, waits)
        growth = self._growths.get()
        if growth is None:
            raise _Abandoned
        note = self._sign(growth.store.tree.size, growth.root)
        self.reached = (growth.store, note)
        self._wal.append_head(note)
        self._wal.check()  # an answer is given only for a log that still stands at its path
        return note, growth.proofs
