"""The log: append and be told, once it is durable and signed, or not at all.

Guarantees its caller that when `append` returns, the entries are on the disk, every one has a receipt that
verifies offline, and no two tree heads it ever signed contradict each other; and that after any failure
nothing more is accepted until the log was opened, and so recovered, anew. All that wait in `append` at one
time are answered by one commit (`audit.group`). Order of a commit, and what a crash leaves:

    1. group into the write-ahead file, fdatasync   torn: dropped at the next start, nobody was answered
    2. tree head signed, written behind the group   missing: signed again at the next start, the same bytes
    3. receipts returned                            the group stands: at worst its answer did not arrive
    4. tiles, then `checkpoint` (`publish`)         missing: derived again from the write-ahead file
    5. write-ahead file begun anew when it is long  the old or the new one, by rename

Steps 1 and 2, 4 and 5 run in a thread of their own (`audit.disk`): a disk that neither fails nor answers
stops the log within a second, as a failure does. The operation that hangs may still succeed later; the thread
begins no other, and keeps the folder locked until then. So what it leaves is one of the crashes above.

KNOWN: opening, and reading an entry or a tile back from a disk that hangs, waits as long as the kernel does.
Source: docs/formats/audit-log.md; C2SP tlog-checkpoint, tlog-tiles, tlog-proof.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from audit.checkpoint import TreeHead
from audit.commit import Commit
from audit.disk import Disk
from audit.entry import JSON, Record, encode_entry, format_time, with_commitments
from audit.epoch import KIND, key_record
from audit.errors import AlreadyExists, AuditError, Invalid, LogUnavailable, Malformed
from audit.folder import INCOMING, LOCK, PQ_VKEY, RESERVE, VKEY, Folder
from audit.group import Committed, Group, Request
from audit.history import make_receipt, read_witnessed, verify_own_head, write_witnessed
from audit.hold import hold_reserve, take_lock
from audit.merkle import EMPTY_ROOT, consistency_proof, range_root
from audit.note import NoteSigner
from audit.recover import Recovery, recover
from audit.signing import Epochs, LogSigner, Signers, no_last_entry
from audit.tiles import WIDTH
from audit.wal import WriteAhead

__all__ = ["Committed", "Log", "Recovery"]

Clock = Callable[[], float]

MAX_GROUP = WIDTH

# Tuning: a start replays at most about this much; a write-ahead file is begun anew beyond it.
ROTATE_BYTES = 1 << 20

_BEGUN = {LOCK, RESERVE, VKEY, PQ_VKEY, INCOMING}  # what an interrupted `create` may have left
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Log:
    """A log open for appending, by one process at a time; its methods may be called from several threads.

    `commit_secret` keys the commitments that stand for secret values; it may be set while the log is open (at
    unseal) and cleared again (at seal). Without it, a record with secret values is refused. `epochs` knows
    whose key signs; `witnessed` is the note of the head kept last by `keep_witnessed`, None if there is none.
    """

    def __init__(self, folder: Folder, signers: Signers, clock: Clock, held: ExitStack, disk: Disk) -> None:
        """Recover the log in a locked folder; `held` closes what is open. Use `open` or `create`."""
        self.commit_secret: bytes | bytearray | memoryview | None = None
        self._folder = folder
        self.epochs = Epochs(folder, signers, clock)
        self._clock = clock
        self._held = held
        self._disk = disk
        self._group = Group(self._serve, MAX_GROUP)
        self._mutex = threading.RLock()
        self._failure: str | None = None
        self._store, replay = recover(folder, self.epochs.chain)
        self.recovery = Recovery(len(replay.entries), replay.torn_bytes)
        self.witnessed = read_witnessed(folder, self.epochs.chain.keys, self._store)
        self._reserve = hold_reserve(folder, held)
        self._note = self._sign(self.size, self._store.tree.root())
        # Rewritten even when whole: after a failed fsync the cache may show what the disk does not have.
        self._wal = WriteAhead.begin(folder, replay.base, replay.base_note, replay.entries, self._note)
        held.callback(self._close_wal)
        if replay.entries and self.epochs.is_pending(self.size, replay.entries[-1]):
            self.epochs.close(replay.entries[-1], self.receipt(self.size - 1))
        self.epochs.signer()  # asked for now: a log that could not sign its next head is not opened
        self._published_bytes = 0
        self._published = -1
        self.publish()

    @classmethod
    def create(
        cls,
        directory: Path,
        signer: NoteSigner | LogSigner,
        clock: Clock = time.time,
        *,
        commit_secret: bytes | bytearray | memoryview | None = None,
    ) -> Log:
        """Begin an empty log, named by its signer, and open it.

        The folder is made, mode 0750; one left by an interrupted `create` is taken over. Raises AlreadyExists
        where a log is, LogUnavailable.
        """
        directory = directory.absolute()
        try:
            with suppress(FileExistsError):
                directory.mkdir(mode=0o750)
            with Folder(directory) as folder:
                if found := {entry.name for entry in folder.names()} - _BEGUN:
                    raise AlreadyExists(
                        f"{directory}: expected an empty folder for a new log, found {min(found)!r}"
                    )
                first = Signers.of(signer).held[0]
                for name, key in zip((VKEY, PQ_VKEY), first.keys, strict=False):
                    folder.replace(name, f"{key.text}\n".encode())
                head = TreeHead(first.log.name, 0, EMPTY_ROOT)
                note = first.sign(head, clock)
                WriteAhead.begin(folder, head, note, [], note).close()
            with Folder(directory.parent) as parent:
                os.fsync(parent.fd)
        except OSError as failure:
            raise LogUnavailable(f"{directory}: a log cannot be begun here: {failure.strerror}") from failure
        return cls.open(directory, signer, clock, commit_secret=commit_secret)

    @classmethod
    def open(
        cls,
        directory: Path,
        signer: NoteSigner | LogSigner | Signers,
        clock: Clock = time.time,
        *,
        commit_secret: bytes | bytearray | memoryview | None = None,
    ) -> Log:
        """Recover a log and open it for appending; reads the write-ahead file and the tree's edge only.

        Raises LogBusy while another process has it open; CouldNotCheck, Malformed, BadSignature or Invalid
        for damage that no crash explains; LogUnavailable where it cannot be written.
        """
        try:
            with ExitStack() as undo:
                held, disk = ExitStack(), Disk()
                undo.callback(disk.close, held.close)
                folder = held.enter_context(Folder(directory.absolute(), disk.step))
                take_lock(folder, held)
                log = cls(folder, Signers.of(signer), clock, held, disk)
                undo.pop_all()
        except OSError as failure:
            raise LogUnavailable(f"{directory}: the log cannot be opened: {failure.strerror}") from failure
        log.commit_secret = commit_secret
        return log

    @property
    def size(self) -> int:
        """How many entries are committed."""
        return self._store.tree.size

    @property
    def path(self) -> Path:
        """The log's folder, absolute."""
        return self._folder.path

    def append(self, records: Sequence[Record]) -> list[Committed]:
        """Log up to 256 records together; all of them are durable and signed for when this returns.

        Threads that wait here at the same time share one fsync and one signature.

        Raises Malformed for a record that may not be logged (nothing is written, the log goes on),
        LogUnavailable for anything that keeps the log from being written: then no record counts, and the log
        has stopped.
        """
        self._demand_alive()
        if len(records) > MAX_GROUP:
            raise Malformed(f"append: expected at most {MAX_GROUP} records in a group, found {len(records)}")
        if any(record.kind == KIND for record in records):
            raise Malformed(f"append: expected no {KIND} record, found one; `rotate_key` writes it")
        if not records:
            return []
        request = Request(records)
        self._group.submit(request)
        if request.failure is not None:
            raise request.failure
        return request.committed

    def rotate_key(
        self, signer: LogSigner, principal: str, resource: str, context: Mapping[str, JSON]
    ) -> Committed:
        """End the epoch of this key: the old key names the next and signs for the last time.

        The caller has made the new key durable, and destroys the old once this returned. Raises Invalid, with
        the log going on, for a key that this log cannot take; LogUnavailable as `append` does: then only the
        next opening knows which of both keys is needed.
        """
        with self._mutex:
            self._demand_alive()
            self.epochs.offer(signer)
            epoch = len(self.epochs.chain.closings) + 1
            record = key_record(signer.keys, epoch, principal, resource, context)
            entry = encode_entry(record, self.size, format_time(self._clock()))
            with self._fatal(), no_last_entry():
                committed = self._commit([entry])[0]
                self._disk.run(lambda: self.epochs.close(entry, committed.receipt))
            return committed

    def tree_head(self) -> bytes:
        """Return the signed head over every committed entry, as the bytes of a note."""
        with self._mutex:
            return self._note

    def receipt(self, index: int, under: bytes | None = None) -> bytes:
        """Make a receipt for any entry, under the newest head or the note of an older one of this log.

        Raises Invalid for a damaged tile, an entry beyond the head, or a head of another history.
        """
        with self._mutex:
            if under is not None:
                return make_receipt(self._store, index, self.verify_head(under), under)
            head = TreeHead(self.epochs.chain.keys.name, self.size, self._store.tree.root())
            return make_receipt(self._store, index, head, self._note)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Prove that the first `old` entries begin the tree of the first `new`; raises Invalid."""
        with self._mutex:
            return consistency_proof(old, min(new, self.size), self._store.subtree)

    def verify_head(self, note: bytes) -> TreeHead:
        """Return the head of a note that this log signed over its history; raises as `verify_own_head`."""
        with self._mutex:
            return verify_own_head(note, self.epochs.chain.keys, self._store)

    def keep_witnessed(self, note: bytes) -> None:
        """Make a head and its cosignatures durable; raises as `verify_head` does, and LogUnavailable."""
        with self._mutex:
            self._demand_alive()
            self.verify_head(note)
            with self._fatal():
                self._disk.run(lambda: write_witnessed(self._folder, note))
            self.witnessed = note

    def entry(self, index: int) -> bytes:
        """Return the bytes of one entry; raises Invalid for an index that the log does not have."""
        with self._mutex:
            if not 0 <= index < self.size:
                raise Invalid(f"entry: expected an index below {self.size}, found {index}")
            return self._store.entry(index)

    def entries(self, start: int = 0) -> Iterator[bytes]:
        """Yield the entries from `start` to what was the end when the iteration began."""
        for index in range(start, self.size):
            yield self.entry(index)

    def publish(self) -> None:
        """Write the tiles and the signed head of all that is committed; raises LogUnavailable.

        The caller's timer calls this within a second of an append. Does nothing where nothing is new.
        """
        with self._mutex:
            self._demand_alive()
            if self._published == self.size:
                return  # a group is never empty, so the same size is the same tree
            with self._fatal():
                self._publish()
                self._published = self.size
                # Not to a base within a closed epoch: no key that is left may sign its head.
                base = max(self._wal.base + WIDTH, self.epochs.chain.end)
                if self._wal.size > ROTATE_BYTES and self.size // WIDTH * WIDTH >= base:
                    self._disk.run(self._rotate)
                self._published_bytes = self._wal.size

    def check(self) -> None:
        """Look whether the log could be appended to now; stops it and raises LogUnavailable where not.

        The caller's timer calls this too, so that a log moved, replaced or write-protected is noticed while
        nobody appends.
        """
        with self._mutex:
            self._demand_alive()
            with self._fatal():
                self._disk.run(self._wal.check)

    def close(self) -> None:
        """Publish, unless the log has stopped, and let another process open it; safe to repeat.

        Returns at once even when the disk hangs; the folder is then locked for as long as it does.
        """
        with self._mutex:
            try:
                if self._failure is None:
                    self.publish()
            finally:
                self._failure = self._failure or "it was closed"
                self._disk.close(self._held.close)

    def _close_wal(self) -> None:
        self._wal.close()  # the one of now: a rotation put another in its place

    def _serve(self, requests: Sequence[Request]) -> None:
        """Answer a group of requests; whatever keeps it from being committed is the answer to all of them."""
        with self._mutex:
            try:
                self._demand_alive()
                waiting, entries = self._encode(requests)
                if entries:
                    with self._fatal():
                        committed = iter(self._commit(entries))
                        if self._wal.size - self._published_bytes > ROTATE_BYTES:
                            self.publish()
                    for request in waiting:
                        request.committed = [next(committed) for _ in request.records]
            except BaseException as failure:
                text = str(failure) if isinstance(failure, LogUnavailable) else self._stopped()
                for request in requests:
                    request.failure = request.failure or LogUnavailable(text)
                    request.failure.__cause__ = failure
                if not isinstance(failure, LogUnavailable):
                    raise

    def _encode(self, requests: Sequence[Request]) -> tuple[list[Request], list[bytes]]:
        """Make entries of the records; one that may not be logged stops only its own request."""
        now = format_time(self._clock())
        waiting: list[Request] = []
        entries: list[bytes] = []
        for request in requests:
            try:
                entries += [
                    encode_entry(with_commitments(record, seq, self.commit_secret), seq, now)
                    for seq, record in enumerate(request.records, self.size + len(entries))
                ]
            except Exception as failure:  # noqa: BLE001  raised in the thread whose record it is
                request.failure = failure
            else:
                waiting.append(request)
        return waiting, entries

    def _commit(self, entries: Sequence[bytes]) -> list[Committed]:
        commit = Commit(self._store, self._note, self._wal, self._sign, entries)
        try:
            return commit.run(self._disk)
        finally:
            self._store, self._note = commit.reached  # what is durable counts, even where nobody is told

    def _sign(self, size: int, root: bytes) -> bytes:
        return self.epochs.sign(size, root)

    def _publish(self) -> None:
        self._disk.run(lambda: self._store.publish(self._note))
        self._store.published()

    def _say_full(self) -> None:
        """Use the reserve to log that the log is full; it is the last entry until room was made."""
        record = Record(
            "log.full", "log", "stop", self.epochs.chain.keys.name, {"reason": "no space left for the log"}
        )
        with suppress(
            OSError, AuditError
        ):  # the caller gets the first failure; this is an attempt to explain it
            self._disk.run(lambda: os.ftruncate(self._reserve, 0))
            if not self._wal.settled:
                self._disk.run(lambda: self._wal.append_head(self._note))
            self._commit([encode_entry(record, self.size, format_time(self._clock()))])
            self._publish()

    def _rotate(self) -> None:
        """Begin the write-ahead file anew at the last full bundle; all before it is durable in tiles."""
        base = self.size // WIDTH * WIDTH
        head = TreeHead(self.epochs.chain.keys.name, base, range_root(0, base, self._store.subtree))
        note = self._sign(base, head.root)
        old = self._wal
        self._wal = WriteAhead.begin(self._folder, head, note, self._store.since(base), self._note)
        old.close()

    def _demand_alive(self) -> None:
        if self._failure is not None:
            raise LogUnavailable(self._stopped())

    def _stopped(self) -> str:
        return f"{self.path}: the log has stopped: {self._failure}; mend that and open it again"

    @contextmanager
    def _fatal(self) -> Iterator[None]:
        """Stop the log on any failure within: what is on the disk is not known until it was recovered."""
        try:
            yield
        except OSError as failure:
            if failure.errno in _FULL:
                self._say_full()
            self._failure = f"it cannot be written: {failure.strerror}"
            raise LogUnavailable(
                f"{self.path}: {self._failure}; nothing more is logged until it is opened again"
            ) from failure
        except BaseException as failure:
            self._failure = self._failure or str(failure) or type(failure).__name__
            raise
