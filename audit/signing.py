"""Who signs a log that is open for appending, from one epoch of its key to the next.

Guarantees that no two keys sign heads of one size, and that a key which has been followed is never asked
again: what it signed last, the closing head, is kept as a file. Order of a rotation, and what a crash leaves:

    1. the caller stores the new key               a key that no entry names: dropped
    2. `log-key` entry committed, signed by the old key, like any other    no entry: 1. Else 3 is done again
    3. closing head durable in `epoch/`            from here the new key signs
    4. the caller destroys the old key             it signs nothing more: destroyed at the next start

Source: docs/formats/audit-log.md, "Epochs of the key".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from audit.checkpoint import TreeHead, sign_tree_head
from audit.entry import parse_entry
from audit.epoch import KIND, closing_path, make_closing, read_chain
from audit.errors import CouldNotCheck, LogUnavailable, Malformed
from audit.folder import Folder
from audit.keys import LogKeys
from audit.mldsa import MLDSA44, MldsaKey
from audit.note import NoteSigner, SignatureLine, VerifierKey
from audit.receipt import MAX_RECEIPT_BYTES

_SEED_BYTES = 32


@dataclass(frozen=True, slots=True)
class LogSigner:
    """The keys of one epoch: the log's own and, in a log that has them, the post-quantum one."""

    log: NoteSigner
    post_quantum: MldsaKey | None = None
    keys: tuple[VerifierKey, ...] = field(init=False)

    def __post_init__(self) -> None:
        keys = [self.log.vkey]
        if self.post_quantum is not None:
            keys.append(VerifierKey(self.log.name, MLDSA44, self.post_quantum.public_key))
        object.__setattr__(self, "keys", tuple(keys))

    @classmethod
    def of_seeds(cls, name: str, seeds: bytes | bytearray) -> LogSigner:
        """Make an epoch's keys of 32 secret bytes, or of 64 for both; raises Malformed, CouldNotCheck."""
        if len(seeds) not in {_SEED_BYTES, 2 * _SEED_BYTES}:
            raise Malformed(f"log key {name}: expected 32 or 64 secret bytes, found {len(seeds)}")
        second = MldsaKey(seeds[_SEED_BYTES:]) if len(seeds) > _SEED_BYTES else None
        return cls(NoteSigner(name, seeds[:_SEED_BYTES]), second)

    def sign(self, head: TreeHead, clock: Callable[[], float]) -> bytes:
        """Sign a head of this log with each of the keys; raises Malformed."""
        note = sign_tree_head(head, self.log)
        if self.post_quantum is None:
            return note
        key = self.keys[1]
        blob = self.post_quantum.sign(key.name, int(clock()), head.text)
        return note + SignatureLine(key.name, key.key_id, blob).text.encode()


@dataclass(frozen=True, slots=True)
class Signers:
    """A log's first public keys, by which it is known, and the signing keys at hand: the newest is needed."""

    first: LogKeys
    held: tuple[LogSigner, ...]

    @classmethod
    def of(cls, signer: NoteSigner | LogSigner | Signers) -> Signers:
        """Take the one signer of a log whose key was never rotated."""
        if isinstance(signer, Signers):
            return signer
        one = signer if isinstance(signer, LogSigner) else LogSigner(signer)
        return cls(LogKeys((one.keys,)), (one,))


class Epochs:
    """The signing side of one open log."""

    def __init__(self, folder: Folder, signers: Signers, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._held = signers.held
        self.chain = read_chain(folder, signers.first)

    def signer(self) -> LogSigner:
        """Return the signer of the open epoch; raises CouldNotCheck where it is not at hand."""
        newest = self.chain.keys.newest
        for signer in self._held:
            if signer.keys == newest:
                return signer
        raise CouldNotCheck(
            f"{self._folder.path}: expected the signing key {newest[0].text} of epoch "
            f"{len(self.chain.closings)}, found none that fits; restore its slot, or begin a new log"
        )

    def sign(self, size: int, root: bytes) -> bytes:
        """Sign a head as the key of its time does: at an epoch's very end with the head that closed it."""
        if size and size == self.chain.end:
            return self.chain.note
        return self.signer().sign(TreeHead(self.chain.keys.name, size, root), self._clock)

    def offer(self, signer: LogSigner) -> None:
        """Take in the key of the next epoch, before any entry names it; raises Invalid for an unfit one."""
        self.chain.keys.then(self.chain.end, signer.keys)
        self._held = (*self._held, signer)

    def kept(self) -> list[bytes]:
        """Return the closings of all epochs but the open one, as they lie in the folder."""
        paths = [closing_path(n) for n in range(len(self.chain.closings))]
        return [self._folder.read(path, MAX_RECEIPT_BYTES) for path in paths]

    def is_pending(self, size: int, last: bytes) -> bool:
        """Tell whether the last entry names a key and its closing head is still to be written."""
        return size > self.chain.end and parse_entry(last).kind == KIND

    def close(self, entry: bytes, receipt: bytes) -> None:
        """Make the closing head durable, verified as every reader will; raises OSError, AuditError."""
        closing = make_closing(entry, receipt)
        chain = self.chain.closed_by(closing)
        self._folder.replace(closing_path(len(self.chain.closings)), closing)
        self._folder.sync()
        self.chain = chain


@contextmanager
def no_last_entry() -> Iterator[None]:
    """Let a full disk stop the log without another entry: the old key may not sign one any more."""
    try:
        yield
    except OSError as failure:
        raise LogUnavailable(f"its key was not rotated: {failure.strerror}") from failure
