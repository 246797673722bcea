"""Sealed corpora as byte tokens: documents, a fixed held-out split, and batches that follow from the step.

A corpus in plaintext is documents joined by one NUL byte, which never occurs in allowed text. The split goes
by document, and by content: it does not depend on the order of documents or on where they came from, and
equal documents fall on one side. Nothing here keeps a position: a batch is a function of (seed, step).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused
from appliance.training import randomness
from appliance.training.config import TrainConfig
from appliance.training.keys import BYTES
from kernels import Integers

SEPARATOR = b"\0"

Plaintext = bytes | bytearray | memoryview


def split_documents(documents: Iterable[bytes], fraction: float) -> tuple[list[bytes], list[bytes]]:
    """Split into (training, held out), the latter at most `fraction` of all bytes where documents allow it.

    Distinct documents are visited in the order of their SHA-256, and held out when they still fit. A single
    document is cut instead: its end is held out. When none fits, the shortest is held out.
    """
    distinct: dict[bytes, list[bytes]] = {}
    for document in documents:
        distinct.setdefault(hashlib.sha256(document).digest(), []).append(document)
    if len(distinct) == 1:
        (copies,) = distinct.values()
        cut = len(copies[0]) - max(1, int(len(copies[0]) * fraction))
        return [copies[0][:cut]], [copies[0][cut:]]
    room = fraction * sum(len(copy) for copies in distinct.values() for copy in copies)
    held: list[bytes] = []  # digests
    for digest in sorted(distinct):
        size = sum(map(len, distinct[digest]))
        if size <= room:
            held.append(digest)
            room -= size
    if not held and distinct:
        held.append(min(distinct, key=lambda digest: (len(distinct[digest][0]), digest)))
    chosen = set(held)
    training = [copy for digest, copies in distinct.items() if digest not in chosen for copy in copies]
    return training, [copy for digest in held for copy in distinct[digest]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tokens and the byte after each of them, int64 (B, T)."""

    tokens: Integers
    targets: Integers


class ByteCorpus:
    """The tokens of one run: `training` and `held_out` are uint8 streams of documents, each after a NUL."""

    def __init__(self, plaintexts: Sequence[Plaintext], config: TrainConfig) -> None:
        """Split the plaintexts of corpus objects; raise `ContentRefused` when there is too little text."""
        if config.data.tokenizer != BYTES:
            raise ContentRefused(
                f"config key data.tokenizer: expected {BYTES!r} for a stream of bytes, found "
                f"{config.data.tokenizer!r}"
            )
        documents = [
            document for plaintext in plaintexts for document in bytes(plaintext).split(SEPARATOR) if document
        ]
        training, held_out = split_documents(documents, config.train.validation_fraction)
        self.training = _stream(training)
        self.held_out = _stream(held_out)
        self._context, self._seed = config.model.context, config.train.seed
        self._batch = config.train.sequences
        if self.training.size <= self._context or self.held_out.size < 2:
            raise ContentRefused(
                f"corpus: expected more than model.context = {self._context} bytes to train on and some "
                f"held out, found {sum(map(len, training))} and {sum(map(len, held_out))} bytes in "
                f"{len(documents)} documents; give more text or a shorter context"
            )

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`: windows at uniformly drawn places of the training stream."""
        starts = randomness.integers(
            self._seed,
            randomness.Purpose.BATCH,
            step,
            count=self._batch,
            below=self.training.size - self._context,
        )
        windows = np.stack([self.training[start : start + self._context + 1] for start in starts])
        return Batch(
            np.ascontiguousarray(windows[:, :-1], dtype=np.int64),
            np.ascontiguousarray(windows[:, 1:], dtype=np.int64),
        )


def _stream(documents: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(SEPARATOR + document for document in documents), dtype=np.uint8)
