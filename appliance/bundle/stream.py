"""The plaintext of a bundle as a stream of known length: `inner.json`, members, end of archive, padding.

Guarantees to the recipient: the same members give the same bytes, and a member that changed between being
hashed and being written stops the stream with an error instead of a bundle that contradicts itself.
Memory stays constant: one chunk at a time. Source: docs/formats/transfer-bundle.md, section Inside.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from appliance.bundle import ustar
from appliance.bundle.content import checker_for
from appliance.bundle.inner import Inner, InnerMember, encode_inner
from appliance.bundle.names import INNER
from appliance.bundle.padding import padme
from appliance.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

# Tuning: enough for two lanes of the cipher to share, twice.
CHUNK_BYTES = 8 << 20

Chunk: TypeAlias = "bytes | bytearray | memoryview"


class Readable(Protocol):
    """Anything that hands out its bytes in order."""

    def read(self, size: int, /) -> bytes | bytearray | memoryview:
        """Return up to `size` bytes, none at the end."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file to pack; `open` starts it from its first byte each time, and may be called twice."""

    name: str
    media_type: str
    size: int
    open: Callable[[], AbstractContextManager[Readable]]


def bytes_member(name: str, media_type: str, data: bytes) -> Member:
    """Return a member whose content is already in memory."""
    return Member(name, media_type, len(data), lambda: io.BytesIO(data))


def digest_member(member: Member) -> InnerMember:
    """Read a member once: hash it, and refuse what no importer would accept.

    Raises ContentRefused for its content, IntegrityError if it is not as long as it said.
    """
    digest = hashlib.sha256()
    checker = checker_for(member.media_type, member.name, member.size)
    for chunk in _chunks(member):
        digest.update(chunk)
        checker.feed(memoryview(chunk))
    checker.finish()
    return InnerMember(member.name, member.media_type, member.size, digest.hexdigest())


class PlainStream:
    """The bytes to encrypt, in chunks; `size` is their number, known before the first one is made."""

    def __init__(self, inner: Inner, members: Sequence[Member]) -> None:
        self._members = sorted(members, key=lambda member: member.name)
        if [(m.name, m.media_type, m.size) for m in self._members] != [
            (m.name, m.media_type, m.size) for m in inner.members
        ]:
            raise IntegrityError("expected the members that were hashed, found others; start again")
        self._promised = inner.members
        self._inner = encode_inner(inner)
        self._archive_bytes = plain_archive_bytes(inner)
        self.size = padme(self._archive_bytes)

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the stream; raise IntegrityError if a member differs from its digest."""
        yield ustar.header(INNER, len(self._inner))
        yield self._inner
        yield bytes(ustar.tail_bytes(len(self._inner)))
        for member, promised in zip(self._members, self._promised, strict=True):
            yield ustar.header(member.name, member.size)
            digest = hashlib.sha256()
            for chunk in _chunks(member):
                digest.update(chunk)
                yield chunk
            if digest.hexdigest() != promised.sha256:
                raise IntegrityError(
                    f"{member.name}: expected the content that was hashed, found it changed; repeat"
                )
            yield bytes(ustar.tail_bytes(member.size))
        yield bytes(ustar.END_BYTES)
        yield from _zeros(self.size - self._archive_bytes)


def plain_archive_bytes(inner: Inner) -> int:
    """Return the bytes of the archive, its end included and its padding not."""
    return ustar.archive_bytes([len(encode_inner(inner)), *(member.size for member in inner.members)])


def plain_bytes(inner: Inner) -> int:
    """Return the padded length of the whole stream: the sum of all parts' plaintext."""
    return padme(plain_archive_bytes(inner))


def _chunks(member: Member) -> Iterator[Chunk]:
    left = member.size
    with member.open() as source:
        while left:
            chunk = source.read(min(CHUNK_BYTES, left))
            if not chunk:
                break
            left -= len(chunk)
            yield chunk
        if left or source.read(1):
            raise IntegrityError(
                f"{member.name}: expected {member.size} bytes, found {'fewer' if left else 'more'};"
                " the file changed while it was read, repeat"
            )


def _zeros(count: int) -> Iterator[bytes]:
    block = bytes(CHUNK_BYTES)
    while count > 0:
        yield block[: min(count, CHUNK_BYTES)]
        count -= CHUNK_BYTES
