"""The documents of a corpus, and which of them are held out.

A corpus in plaintext is documents joined by one NUL byte, which never occurs in allowed text. The split goes
by document, and by content: it does not depend on the order of documents or on where they came from, and
equal documents fall on one side. One pass reads a corpus a block at a time and keeps 48 bytes per document.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from appliance.training.buffers import Opener
from appliance.training.source import blocks, read_at

SEPARATOR = b"\0"
_DIGEST_BYTES = 32
_LONGEST_CHARACTER = 4  # bytes of UTF-8


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, stop) of one source: a document, or a part of one."""

    source: int
    start: int
    stop: int


class Documents:
    """Where each document of some sources lies, and the SHA-256 of its bytes, in the order of reading."""

    def __init__(self) -> None:
        self._sources, self._starts, self._stops = array("B"), array("Q"), array("Q")
        self._digests = bytearray()

    def add(self, span: Span, digest: bytes) -> None:
        """Note one more document."""
        self._sources.append(span.source)
        self._starts.append(span.start)
        self._stops.append(span.stop)
        self._digests += digest

    def __len__(self) -> int:
        return len(self._starts)

    def span(self, number: int) -> Span:
        """Where document `number` lies."""
        return Span(self._sources[number], self._starts[number], self._stops[number])

    def size(self, number: int) -> int:
        """Bytes of document `number`."""
        return self._stops[number] - self._starts[number]

    def digest(self, number: int) -> bytes:
        """SHA-256 of document `number`."""
        return bytes(self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES])


def scan(sources: Sequence[Opener]) -> Documents:
    """Find the documents of `sources`, each no more than a block at a time; empty ones are none."""
    found = Documents()
    for number, source in enumerate(sources):
        start = place = 0
        running = hashlib.sha256()
        for block in blocks(source):
            first, *others = block.split(SEPARATOR)
            running.update(first)
            place += len(first)
            for piece in others:
                if place > start:
                    found.add(Span(number, start, place), running.digest())
                start = place = place + 1
                running = hashlib.sha256(piece)
                place += len(piece)
        if place > start:
            found.add(Span(number, start, place), running.digest())
    return found


def held_out_digests(documents: Documents, numbers: Sequence[int], fraction: float) -> list[bytes]:
    """Digests of the documents to hold out of `numbers`, of at least two distinct ones.

    Distinct documents are visited in the order of their SHA-256, and held out while what they and their
    copies take stays within `fraction` of all bytes. When none fits, the shortest is held out.
    """
    sizes: dict[bytes, int] = {}
    shortest: dict[bytes, int] = {}
    for number in numbers:
        digest = documents.digest(number)
        sizes[digest] = sizes.get(digest, 0) + documents.size(number)
        shortest[digest] = documents.size(number)
    room = fraction * sum(sizes.values())
    held: list[bytes] = []
    for digest in sorted(sizes):
        if sizes[digest] <= room:
            held.append(digest)
            room -= sizes[digest]
    return held or [min(shortest, key=lambda digest: (shortest[digest], digest))]


@dataclass(frozen=True, slots=True)
class Split:
    """The spans of each source to train on, and those held out."""

    training: tuple[tuple[Span, ...], ...]
    held_out: tuple[tuple[Span, ...], ...]


def split(sources: Sequence[Opener], fraction: float) -> Split:
    """Split every source by its documents; one that is held out of one source is held out of all.

    A source of a single distinct document is cut instead: the end of it is held out, and copies are dropped.
    """
    documents = scan(sources)
    of_source: list[list[int]] = [[] for _ in sources]
    for number in range(len(documents)):
        of_source[documents.span(number).source].append(number)
    distinct = [len({documents.digest(number) for number in numbers}) for numbers in of_source]
    held = {
        digest
        for numbers, count in zip(of_source, distinct, strict=True)
        if count > 1
        for digest in held_out_digests(documents, numbers, fraction)
    }
    training: list[tuple[Span, ...]] = []
    held_out: list[tuple[Span, ...]] = []
    for source, numbers, count in zip(sources, of_source, distinct, strict=True):
        if count == 1 and documents.digest(numbers[0]) not in held:
            head, tail = _cut(source, documents.span(numbers[0]), fraction)
            training.append((head,))
            held_out.append((tail,))
            continue
        aside = [number for number in numbers if documents.digest(number) in held]
        aside.sort(key=documents.digest)
        training.append(
            tuple(documents.span(number) for number in numbers if documents.digest(number) not in held)
        )
        held_out.append(tuple(documents.span(number) for number in aside))
    return Split(tuple(training), tuple(held_out))


def _cut(source: Opener, span: Span, fraction: float) -> tuple[Span, Span]:
    """Cut one document so that its end, at least a character, is held out."""
    wanted = span.stop - max(1, int((span.stop - span.start) * fraction))
    place = character_start(source, span.start, wanted)
    return Span(span.source, span.start, place), Span(span.source, place, span.stop)


def character_start(source: Opener, start: int, place: int) -> int:
    """Move `place` back, not before `start`, to where a character of UTF-8 begins; other bytes stay put."""
    first = max(start, place - _LONGEST_CHARACTER + 1)
    near = read_at(source, first, place - first + 1)
    for back in range(len(near)):
        if near[len(near) - 1 - back] & 0xC0 != 0x80:  # no continuation byte
            return place - back
    return place


def texts(sources: Sequence[Opener], spans: Iterable[Span]) -> Iterator[bytes]:
    """Yield the bytes of each span, whole."""
    for span in spans:
        yield read_at(sources[span.source], span.start, span.stop - span.start)
