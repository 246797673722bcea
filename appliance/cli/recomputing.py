"""Opened objects as files, computed on: how an auditor repeats a stretch of training without us."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from appliance.cli.files import read_small
from appliance.errors import IntegrityError, UsageError
from appliance.training.bpe import BytePairs
from appliance.training.checkpoint import Digests, TrainingState
from appliance.training.config import TrainConfig, parse_config
from appliance.training.data import Corpus
from appliance.training.keys import BYTES
from appliance.training.replay import replay
from appliance.training.safetensors import Array
from appliance.training.source import read_at
from appliance.training.tensorfile import TensorFile
from appliance.training.tokenizer import (
    MAX_TOKENIZER_BYTES,
    ByteTokenizer,
    Tokenizer,
    parse_tokenizer,
)
from appliance.training.trainer import Trainer
from kernels import Backend, backend, fastest
from kernels.errors import BackendMissing


def recompute(
    config: Path,
    corpora: Sequence[Path],
    tokenizer: Path | None,
    weights: Path | None,
    optimizer: Path | None,
    steps: Sequence[int],
) -> Iterator[Digests]:
    """Yield the digests of the states after `steps`; raises ContentRefused where files do not fit."""
    parsed = parse_config(read_small(config, "config"))
    state = None
    if weights is not None and optimizer is not None:
        state = TrainingState(_tensors(weights)[0], *_tensors(optimizer))
    names = [name for name, _ in parsed.data.corpus]
    if len(corpora) != len(names):
        raise UsageError(
            f"recompute: expected {len(names)} corpora, in the order {', '.join(names)}, found {len(corpora)}"
        )
    sources = {name: _OpenFile(path) for name, path in zip(names, corpora, strict=True)}
    corpus = Corpus(sources, _tokens(parsed, tokenizer), parsed)
    ops = _arithmetic(state.metadata.get("backend", "") if state else "", parsed.train.threads or None)
    return replay(Trainer(parsed, corpus, ops, state), steps)


def _tokens(config: TrainConfig, path: Path | None) -> Tokenizer:
    """Open the tokenizer that cuts the config's corpora; raises UsageError for one too few or too many."""
    if (config.data.tokenizer == BYTES) != (path is None):
        wanted = "none: the config reads bytes" if path else "the one of the job: the config reads byte pairs"
        raise UsageError(f"recompute: expected as --tokenizer {wanted}, found {path or 'none'}")
    if path is None:
        return ByteTokenizer()
    with closing(_OpenFile(path)) as source:
        return BytePairs(parse_tokenizer(read_at(source, 0, min(source.size, MAX_TOKENIZER_BYTES + 1))))


def _arithmetic(name: str, threads: int | None) -> Backend:
    """Return the backend that made the state where this machine has it, else the fastest."""
    try:
        return backend(name, threads=threads) if name else fastest(threads=threads)[0]
    except BackendMissing:
        return fastest(threads=threads)[0]


class _OpenFile:
    """A plaintext file behind the face that training sees of sealed ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def open_into(self, buffer: memoryview, offset: int) -> None:
        """Read exactly the buffer's bytes from `offset`; raises IntegrityError where the file has fewer."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if not count:
                raise IntegrityError(f"{self._path}: expected {self.size} bytes, found fewer: it shrank")
            done += count

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _tensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    with closing(_OpenFile(path)) as source:
        file = TensorFile(source)
        return file.load(), dict(file.header.metadata)
