"""Witnessing, the appliance's side: what is shown to witnesses, what they answered, and how long ago.

Guarantees that nothing kept here is believed: a head counts as witnessed only if this log signed it over its
own history and enough of the witnesses that the genesis entry names cosigned it, checked at each start. What
is lost from here makes a log less witnessed, never more.

    <home>/witness/SIZE.note   heads that were shown lately, with the cosignatures that came back
    <home>/log/witnessed       the newest of them that enough witnesses cosigned

The age of what is unwitnessed needs no trusted clock: within one life of the custodian it is the time that
passed by the monotonic clock; for lives before, the sum of the steps forward between the times of consecutive
entries. A clock that was set back adds nothing and takes nothing away.
KNOWN: time in which the host slept, or since the last entry of a life that ended, counts only by the entries'
times: a clock that was set back before the next start hides it. The number of entries depends on no clock.
Source: docs/formats/audit-log.md, "Witnesses".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.errors import IntegrityError, UnknownObject, UsageError
from audit.checkpoint import TreeHead
from audit.cosignature import Cosignature, merge_cosignatures, verify_cosignatures
from audit.entry import parse_entry
from audit.errors import AuditError, BadSignature
from audit.folder import Folder
from audit.log import Log
from audit.note import MAX_NOTE_BYTES, VerifierKey, parse_note
from audit.witness import Challenge, format_challenge

# Tuning: sticks that are under way at one time; and the entries whose times are read at a start (0.3 s).
MAX_SHOWN = 8
MAX_TIMES = 10_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an answer brought: the head, who cosigned it by now, and how many are still missing."""

    head: TreeHead
    cosignatures: tuple[Cosignature, ...]
    missing: int


@dataclass(frozen=True, slots=True)
class Seen:
    """An enrolled witness, and the newest head that it is known to have cosigned (size 0: none)."""

    witness: VerifierKey
    size: int = 0
    seconds: int = 0


class Witnessing:
    """The witnesses of one open log."""

    def __init__(
        self,
        log: Log,
        folder: Path,
        witnesses: Sequence[VerifierKey],
        quorum: int,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Look at what the log holds; raises IntegrityError for a wrong cosignature by a known witness."""
        self.witnesses = tuple(witnesses)
        self.quorum = quorum
        self._log = log
        self._folder = folder
        self._monotonic = monotonic
        self._begin_size, self._begin_s, self._began_s = log.size, monotonic(), clock()
        self._shown_s: dict[int, float] = {}
        self.size = 0
        """How many entries the newest witnessed head covers, 0 where there is none."""
        if log.witnessed is not None and self.witnesses:
            self._count(log.witnessed)
        self._earlier_s, self._since_s = self._measure()

    @property
    def entries(self) -> int:
        """How many entries no witnessed head covers."""
        return self._log.size - self.size

    @property
    def age_s(self) -> int:
        """Seconds since the newest witnessed head was made, or since the log began; 0 without witnesses."""
        if not self.witnesses:
            return 0
        return int(self._earlier_s + max(0.0, self._monotonic() - self._since_s))

    def challenge(self, old: int | None, witness: str, *, again: bool) -> tuple[bytes, int, int]:
        """Make the body of add-checkpoint; returns it, the old size and the size that is shown.

        The old size is `old`, else what `witness` (or the only one) cosigned last, else the newest witnessed
        head's. `again` shows the head that was shown last, so that several can cosign the same one. Raises
        UsageError, UnknownObject.
        """
        note = self._last_shown() if again else self._log.tree_head()
        size = TreeHead.parse(parse_note(note)[0]).size
        begin = self._old_size(witness) if old is None else old
        if not 0 <= begin <= size:
            raise UsageError(f"challenge: expected an old size of 0 to {size}, found {begin}")
        if not again:
            self._keep(size, note)
            self._shown_s[size] = self._monotonic()
        proof = tuple(self._log.consistency(begin, size))
        return format_challenge(Challenge(begin, proof, note)), begin, size

    def accept(self, answer: bytes) -> Accepted:
        """Take a witness's answer to a head that was shown; raises Malformed, BadSignature, UnknownObject."""
        refused: AuditError | None = None
        for note in self._shown():
            try:
                merged = merge_cosignatures(note, answer, self.witnesses)
            except BadSignature as other_head:
                refused = refused or other_head
                continue
            return self._accepted(merged)
        if refused is None:
            raise UnknownObject("no head was shown to a witness yet: begin with `appliance audit challenge`")
        raise BadSignature(f"{refused}; expected the answer to one of the last {MAX_SHOWN} challenges")

    def seen(self) -> list[Seen]:
        """List the enrolled witnesses, each with the newest head that it is known to have cosigned."""
        newest = {key.name: Seen(key) for key in self.witnesses}
        notes = [*self._shown(), *([self._log.witnessed] if self._log.witnessed is not None else [])]
        for note in notes:
            size = TreeHead.parse(parse_note(note)[0]).size
            for each in verify_cosignatures(note, self.witnesses):
                known = newest[each.witness.name]
                if (size, each.seconds) > (known.size, known.seconds):
                    newest[each.witness.name] = Seen(each.witness, size, each.seconds)
        return list(newest.values())

    def note_over(self, index: int) -> bytes | None:
        """Return the newest witnessed head's note if it covers an entry, for a receipt under it."""
        return self._log.witnessed if index < self.size else None

    def _accepted(self, merged: bytes) -> Accepted:
        head = TreeHead.parse(parse_note(merged)[0])
        cosignatures = verify_cosignatures(merged, self.witnesses)
        self._keep(head.size, merged)
        missing = max(0, self.quorum - len(cosignatures))
        if not missing and head.size >= self.size:
            self._log.keep_witnessed(merged)
            self.size = head.size
            self._earlier_s, self._since_s = self._measure()
        return Accepted(head, cosignatures, missing)

    def _count(self, note: bytes) -> None:
        try:
            found = verify_cosignatures(note, self.witnesses)
        except AuditError as failure:
            raise IntegrityError(
                f"{self._log.path}/witnessed: {failure}; restore it, or remove it and have the log witnessed"
            ) from failure
        if len(found) >= self.quorum:
            self.size = TreeHead.parse(parse_note(note)[0]).size

    def _measure(self) -> tuple[float, float]:
        """Return the age that earlier lives of the custodian account for, and since when this one counts."""
        if self.size in self._shown_s:
            return 0.0, self._shown_s[self.size]
        first = max(0, self.size - 1)
        if not self.witnesses or first >= self._begin_size:
            return 0.0, self._begin_s
        after = max(first + 1, self._begin_size - MAX_TIMES)
        times = [_time_s(self._log.entry(index)) for index in (first, *range(after, self._begin_size))]
        return forward_s([*times, self._began_s]), self._begin_s

    def _old_size(self, witness: str) -> int:
        seen = {each.witness.name: each.size for each in self.seen()}
        if witness and witness not in seen:
            raise UnknownObject(
                f"expected a witness of {', '.join(seen) or 'none enrolled'}, found {witness!r}"
            )
        if witness:
            return seen[witness]
        return next(iter(seen.values())) if len(seen) == 1 else self.size

    def _keep(self, size: int, note: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        with Folder(self._folder) as folder:
            folder.replace(f"{size}.note", note)
            folder.sync()
        for old in self._sizes()[MAX_SHOWN:]:
            (self._folder / f"{old}.note").unlink()

    def _sizes(self) -> list[int]:
        names = [path.stem for path in self._folder.glob("*.note")]
        return sorted((int(name) for name in names if name.isascii() and name.isdecimal()), reverse=True)

    def _shown(self) -> list[bytes]:
        """Return the heads that were shown lately, newest first; what is damaged or foreign is left out."""
        found = (self._read_own(size) for size in self._sizes()[:MAX_SHOWN])
        return [note for note in found if note is not None]

    def _read_own(self, size: int) -> bytes | None:
        try:
            with Folder(self._folder) as folder:
                note = folder.read(f"{size}.note", MAX_NOTE_BYTES)
            self._log.verify_head(note)
            verify_cosignatures(note, self.witnesses)
        except AuditError:
            return None
        return note

    def _last_shown(self) -> bytes:
        shown = self._shown()
        if not shown:
            raise UnknownObject("no head was shown to a witness yet: make a challenge without --again first")
        return shown[0]


def forward_s(times: Iterable[float]) -> float:
    """Sum the steps forward between consecutive moments, in seconds; steps back count as none."""
    total, last = 0.0, None
    for moment in times:
        total += max(0.0, moment - last) if last is not None else 0.0
        last = moment
    return total


def _time_s(entry: bytes) -> float:
    return datetime.fromisoformat(parse_entry(entry).time).timestamp()
