"""One long row of tokens out of many documents, held in memory or read as it is needed.

Each document gives the separator and then its tokens. Both forms give the same tokens at the same places:
text is encoded in pieces, cut where `pieces` says and nowhere else, so that a piece can be encoded again
alone. A corpus larger than its budget keeps only where its pieces lie, and a few pieces that were used last.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from appliance.training.buffers import Opener
from appliance.training.documents import Span, character_start
from appliance.training.source import read_at
from appliance.training.tokenizer import SEPARATOR_TOKEN, Tokenizer, Tokens

PIECE_BYTES = 1 << 16  # tuning: what is decrypted and encoded again for one window of a sliced corpus
_WORD_BYTES = 256  # how far back from the end of a piece a space is looked for
_KEPT_PIECES = 64


class Stream(Protocol):
    """Tokens by their place."""

    @property
    def size(self) -> int:
        """How many there are."""

    def read(self, start: int, count: int, /) -> Tokens:
        """Return tokens [start, start + count), which lie within the stream."""


class HeldTokens:
    """A stream in memory."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self.size = tokens.size

    def read(self, start: int, count: int, /) -> Tokens:
        """Return a view of the tokens."""
        return self._tokens[start : start + count]


class SlicedTokens:
    """A stream whose pieces are read and encoded when a window touches them."""

    def __init__(self, sources: Sequence[Opener], spans: Sequence[Span], tokenizer: Tokenizer) -> None:
        """Read everything once, to learn how many tokens each piece has."""
        self._sources, self._tokenizer = sources, tokenizer
        self._pieces = [piece for span in spans for piece in pieces(sources[span.source], span)]
        # Without a cache here: each piece is passed once.
        sizes = [_encode(sources, piece, first, tokenizer).size for piece, first in self._pieces]
        self._ends = np.cumsum(np.asarray(sizes, np.int64))
        self.size = int(self._ends[-1]) if sizes else 0
        self._tokens_of = functools.lru_cache(maxsize=_KEPT_PIECES)(self._read_piece)

    def read(self, start: int, count: int, /) -> Tokens:
        """Put together the pieces that hold the tokens."""
        number = int(np.searchsorted(self._ends, start, side="right"))
        skipped = start - (int(self._ends[number - 1]) if number else 0)
        parts: list[Tokens] = []
        while count > 0:
            part = self._tokens_of(number)[skipped : skipped + count]
            parts.append(part)
            count -= part.size
            number, skipped = number + 1, 0
        return np.concatenate(parts)

    def _read_piece(self, number: int) -> Tokens:
        piece, first = self._pieces[number]
        return _encode(self._sources, piece, first, self._tokenizer)


def pieces(source: Opener, span: Span) -> Iterator[tuple[Span, bool]]:
    """Cut a document into pieces of at most 64 KiB, and say of each whether it is the first.

    A cut falls before the last space of a piece's end, where words are cut anyway; without one, between two
    characters.
    """
    start = span.start
    while start < span.stop:
        stop = min(start + PIECE_BYTES, span.stop)
        if stop < span.stop:
            stop = _before_a_word(source, start, stop)
        yield Span(span.source, start, stop), start == span.start
        start = stop


def _before_a_word(source: Opener, start: int, stop: int) -> int:
    first = max(start + 1, stop - _WORD_BYTES)
    space = read_at(source, first, stop - first).rfind(b" ")
    return first + space if space >= 0 else character_start(source, start + 1, stop)


def read_tokens(
    sources: Sequence[Opener], spans: Sequence[Span], tokenizer: Tokenizer, limit: int | None = None
) -> Tokens:
    """Encode `spans` into one array of the smallest type that holds a token, at most `limit` of them."""
    kind = np.min_scalar_type(tokenizer.vocabulary - 1)
    parts: list[Tokens] = [np.empty(0, kind)]
    size = 0
    for span in spans:
        for piece, first in pieces(sources[span.source], span):
            if limit is not None and size >= limit:
                break
            parts.append(_encode(sources, piece, first, tokenizer).astype(kind, copy=False))
            size += parts[-1].size
    return np.concatenate(parts)[:limit]


def _encode(sources: Sequence[Opener], piece: Span, first: bool, tokenizer: Tokenizer) -> Tokens:  # noqa: FBT001
    text = read_at(sources[piece.source], piece.start, piece.stop - piece.start)
    tokens = tokenizer.encode(text, f"corpus {piece.source}, bytes from {piece.start}")
    return np.concatenate([np.asarray([SEPARATOR_TOKEN], tokens.dtype), tokens]) if first else tokens
