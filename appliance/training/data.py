"""What a run is trained on: batches that follow from the step, and a fixed held-out part.

An epoch shows each window of a corpus once, in an order of its own, and cuts the windows anew at a shifted
place. Several corpora are mixed by weight. Nothing here keeps a position: sequence number n of a run is a
function of the seed and n, so a batch is one of (seed, step), and whoever wants a part of it takes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused
from appliance.training import randomness
from appliance.training.buffers import Opener
from appliance.training.config import TrainConfig
from appliance.training.documents import SEPARATOR, Span, split, texts
from appliance.training.keys import MAX_CORPORA
from appliance.training.shuffle import Places, mixed, permuted
from appliance.training.source import HeldBytes, read_at
from appliance.training.stream import HeldTokens, SlicedTokens, Stream, pieces, read_tokens
from appliance.training.tokenizer import Tokenizer, Tokens, check_vocabulary
from kernels import Integers

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens and the token after each of them, int64 (B, T)."""

    tokens: Integers
    targets: Integers


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Tokens to be predicted after the first, and how many bytes those stand for."""

    tokens: Tokens
    size_bytes: int


class Corpus:
    """The tokens of one run."""

    def __init__(self, sources: Mapping[str, Opener], tokenizer: Tokenizer, config: TrainConfig) -> None:
        """Split and encode the corpora that `config.data.corpus` names, each given in `sources`.

        Together larger than `config.data.memory`, they are read in slices as long as the corpus is used; else
        `held` is true, and the sources are no longer needed. Raises `ContentRefused` when there
        is too little text, on a vocabulary that is not the model's, and on text the tokenizer does not take.
        """
        check_vocabulary(tokenizer, config.model)
        self._context, self._seed = config.model.context, config.train.seed
        self._sequences = config.train.sequences
        self._weights = tuple(weight for _, weight in config.data.corpus)
        given = [sources[name] for name, _ in config.data.corpus]
        parts = split(given, config.train.validation_fraction)
        self.held = sum(source.size for source in given) <= config.data.memory * _MIB
        self._streams = [_stream(given, spans, tokenizer, held=self.held) for spans in parts.training]
        self.held_out = _held_out(given, parts.held_out, tokenizer, config)
        for (name, _), stream, spans in zip(config.data.corpus, self._streams, parts.training, strict=True):
            if stream.size <= self._context or self.held_out.size_bytes < 1:
                raise ContentRefused(
                    f"corpus {name}: expected more than model.context = {self._context} tokens to train on "
                    f"and some held out, found {stream.size} tokens in {len(spans)} documents and "
                    f"{self.held_out.size_bytes} bytes held out; give more text or a shorter context"
                )

    def batch(self, step: int) -> Batch:
        """Return the sequences of `step` (0-based)."""
        return self.sequences(step * self._sequences, self._sequences)

    def sequences(self, first: int, count: int) -> Batch:
        """Return sequences [first, first + count) of the run."""
        corpus, numbers = mixed(first, count, self._weights, self._seed)
        windows = np.empty((count, self._context + 1), np.int64)
        for index, stream in enumerate(self._streams):
            rows = np.flatnonzero(corpus == index)
            for row, start in zip(rows, self._starts(stream, index, numbers[rows]), strict=True):
                windows[row] = stream.read(int(start), self._context + 1)
        return Batch(np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:]))

    def _starts(self, stream: Stream, index: int, numbers: Places) -> npt.NDArray[np.int64]:
        """Where the windows `numbers` of a corpus start: epochs of as many windows as fit behind a shift."""
        T = self._context
        count = max(1, (stream.size - T) // T)
        slack = min(stream.size - 1 - count * T, T - 1)
        starts = np.empty(numbers.size, np.int64)
        epochs = numbers // np.uint64(count)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            counter = int(epoch) * MAX_CORPORA + index
            (shift,) = randomness.integers(
                self._seed, randomness.Purpose.SHIFT, counter, count=1, below=slack + 1
            )
            order = permuted(
                numbers[here] % np.uint64(count), count, self._seed, randomness.Purpose.SHUFFLE, counter
            )
            starts[here] = order.astype(np.int64) * T + shift
        return starts


def _stream(sources: list[Opener], spans: tuple[Span, ...], tokenizer: Tokenizer, *, held: bool) -> Stream:
    if held:
        return HeldTokens(read_tokens(sources, spans, tokenizer))
    return SlicedTokens(sources, spans, tokenizer)


def _held_out(
    sources: list[Opener],
    spans: tuple[tuple[Span, ...], ...],
    tokenizer: Tokenizer,
    config: TrainConfig,
) -> HeldOut:
    """Take `train.eval_tokens` from the held-out parts, from each by its corpus's weight."""
    tokens = np.concatenate(
        [
            read_tokens(sources, part, tokenizer, limit=max(2, round(config.train.eval_tokens * weight)))
            for part, (_, weight) in zip(spans, config.data.corpus, strict=True)
        ]
    )
    return HeldOut(tokens, count_bytes(tokens[1:], tokenizer))


def tokenizer_texts(sources: Sequence[Opener], fraction: float) -> Iterator[tuple[bytes, str]]:
    """Yield what a tokenizer may be trained on: pieces of what is not held out, and where they lie."""
    for number, spans in enumerate(split(sources, fraction).training):
        for span in spans:
            for piece, _ in pieces(sources[number], span):
                text = read_at(sources[number], piece.start, piece.stop - piece.start)
                yield text, f"corpus {number}, bytes from {piece.start}"


def count_bytes(tokens: Tokens, tokenizer: Tokenizer) -> int:
    """Count the bytes that tokens stand for; what stands between documents is one byte."""
    lengths = np.asarray([len(tokenizer.bytes_of(token)) for token in range(tokenizer.vocabulary)], np.int64)
    return int(lengths[tokens].sum())


def split_documents(documents: Iterable[bytes], fraction: float) -> tuple[list[bytes], list[bytes]]:
    """Split documents without NUL into (training, held out) as a run on them as one corpus does."""
    source = HeldBytes(SEPARATOR.join(documents))
    parts = split([source], fraction)
    return list(texts([source], parts.training[0])), list(texts([source], parts.held_out[0]))
