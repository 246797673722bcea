"""Takes a bundle's plaintext apart as it streams past, and refuses it at the first byte that is wrong.

Guarantees to the importing worker: members arrive in order, each announced with its promised size and
hash, its bytes judged by content before they are handed on, and `end` comes only after size, hash and
content all held. What was handed on before an error must be dropped by the sink. Memory is constant but for
`inner.json` and small TOML and JSON members. Never an archive library: one strict 512-byte-header reader.

Order of the checks: header of inner.json → its parse → same bundle as the manifest → each header equals
the next promised member → content → hash → zero fill → end of archive → zero padding → Padme length.
Source: docs/formats/transfer-bundle.md, section Inside.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Protocol

from appliance.bundle import ustar
from appliance.bundle.content import Checker, checker_for
from appliance.bundle.inner import MAX_INNER_BYTES, Inner, InnerMember, check_inner, parse_inner
from appliance.bundle.names import INNER
from appliance.bundle.stream import plain_archive_bytes, plain_bytes
from appliance.errors import ContentRefused, Incomplete, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bundle.manifest import Label


class Sink(Protocol):
    """Receives the members of one bundle."""

    def contents(self, inner: Inner) -> None:
        """Learn of all members before the first; may raise to refuse them."""

    def begin(self, member: InnerMember) -> None:
        """Make ready for a member."""

    def data(self, data: memoryview) -> None:
        """Take the next bytes of the member; the view is valid during the call only."""

    def end(self, member: InnerMember) -> None:
        """Keep the member: it was complete and as promised."""


class Extractor:
    """Push plaintext in with `feed`, then `finish`; raises ContentRefused, IntegrityError, Incomplete."""

    def __init__(self, label: Label, sink: Sink) -> None:
        self._label = label
        self._sink = sink
        self._pending: deque[InnerMember] = deque()
        self._inner: Inner | None = None
        self._seen = 0
        # The bytes of a header, of inner.json or of zeros that are being collected.
        self._held = bytearray()
        self._wanted = ustar.BLOCK
        self._step: Callable[[memoryview], int] = self._collect
        self._collected: Callable[[bytes], None] = self._inner_header
        self._member: _OpenMember | None = None
        self._zeros_left = 0
        self._after_zeros: Callable[[], None] = self._next_header

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes of plaintext."""
        view = memoryview(data)
        while view:
            taken = self._step(view)
            self._seen += taken
            view = view[taken:]

    def finish(self) -> Inner:
        """Return the contents; raise Incomplete if the stream ended early."""
        if self._inner is None or self._seen != plain_bytes(self._inner):
            wanted = "inner.json first" if self._inner is None else f"{plain_bytes(self._inner)} bytes"
            raise Incomplete(
                f"bundle content: expected {wanted}, found the end after {self._seen}; import all parts"
            )
        return self._inner

    def _collect(self, view: memoryview) -> int:
        taken = min(self._wanted - len(self._held), len(view))
        self._held += view[:taken]
        if len(self._held) == self._wanted:
            held, self._held = bytes(self._held), bytearray()
            self._collected(held)
        return taken

    def _inner_header(self, block: bytes) -> None:
        name, size = ustar.parse_header(block)
        if name != INNER or not 0 < size <= MAX_INNER_BYTES:
            raise ContentRefused(
                f"bundle content: expected {INNER} of at most {MAX_INNER_BYTES} bytes first, found {name}"
                f" of {size}"
            )
        self._wanted, self._collected = size, self._inner_json

    def _inner_json(self, data: bytes) -> None:
        inner = parse_inner(data)
        check_inner(inner, self._label)
        self._sink.contents(inner)
        self._inner = inner
        self._pending = deque(inner.members)
        self._expect_zeros(ustar.tail_bytes(len(data)), self._next_header)

    def _next_header(self) -> None:
        if not self._pending:
            assert self._inner is not None  # noqa: S101  set before any header is asked for
            padding = plain_bytes(self._inner) - plain_archive_bytes(self._inner)
            self._expect_zeros(ustar.END_BYTES + padding, self._expect_nothing)
            return
        self._wanted, self._collected = ustar.BLOCK, self._member_header
        self._step = self._collect

    def _member_header(self, block: bytes) -> None:
        name, size = ustar.parse_header(block)
        promised = self._pending.popleft()
        if (name, size) != (promised.name, promised.size):
            raise ContentRefused(
                f"bundle content: expected {promised.name} of {promised.size} bytes as inner.json says,"
                f" found {name} of {size}"
            )
        self._member = _OpenMember(promised, self._sink)
        self._step = self._member_data
        if size == 0:
            self._end_member(self._member)

    def _member_data(self, view: memoryview) -> int:
        assert self._member is not None  # noqa: S101  this step is set together with it
        taken = self._member.feed(view)
        if self._member.left == 0:
            self._end_member(self._member)
        return taken

    def _end_member(self, member: _OpenMember) -> None:
        member.finish()
        self._member = None
        self._expect_zeros(ustar.tail_bytes(member.promised.size), self._next_header)

    def _expect_zeros(self, count: int, then: Callable[[], None]) -> None:
        self._zeros_left, self._after_zeros, self._step = count, then, self._zeros
        if count == 0:
            then()

    def _zeros(self, view: memoryview) -> int:
        taken = min(self._zeros_left, len(view))
        if bytes(view[:taken]).strip(b"\0"):
            raise ContentRefused(
                f"bundle content: expected only zero bytes as fill after byte {self._seen}, found others"
            )
        self._zeros_left -= taken
        if self._zeros_left == 0:
            self._after_zeros()
        return taken

    def _expect_nothing(self) -> None:
        self._step = self._surplus

    def _surplus(self, view: memoryview) -> int:
        raise ContentRefused(
            f"bundle content: expected the end after {self._seen} bytes of padded archive, found"
            f" {len(view)} more"
        )


class _OpenMember:
    """The member passing by; `left` counts its missing bytes."""

    def __init__(self, promised: InnerMember, sink: Sink) -> None:
        self.promised = promised
        self.left = promised.size
        self._sink = sink
        self._digest = hashlib.sha256()
        self._checker: Checker = checker_for(promised.media_type, promised.name, promised.size)
        sink.begin(promised)

    def feed(self, view: memoryview) -> int:
        """Judge and hand on up to `left` bytes; return how many were taken."""
        view = view[: self.left]
        self._checker.feed(view)
        self._digest.update(view)
        self._sink.data(view)
        self.left -= len(view)
        return len(view)

    def finish(self) -> None:
        """Confirm the member to the sink; raise IntegrityError if its hash differs."""
        self._checker.finish()
        found = self._digest.hexdigest()
        if found != self.promised.sha256:
            raise IntegrityError(
                f"{self.promised.name}: expected SHA-256 {self.promised.sha256} as inner.json says, found"
                f" {found}"
            )
        self._sink.end(self.promised)
