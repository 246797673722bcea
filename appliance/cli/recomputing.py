"""Opened objects as files, computed on: how an auditor repeats a stretch of training without us."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.cli.files import read_small
from appliance.training import safetensors
from appliance.training.checkpoint import Digests, TrainingState
from appliance.training.config import parse_config
from appliance.training.data import ByteCorpus
from appliance.training.replay import replay
from appliance.training.trainer import Trainer
from kernels import backend


def recompute(
    config: Path, corpora: Sequence[Path], weights: Path | None, optimizer: Path | None, steps: Sequence[int]
) -> Iterator[Digests]:
    """Yield the digests of the states after `steps`; raises ContentRefused where files do not fit."""
    parsed = parse_config(read_small(config, "config"))
    state = None
    if weights is not None and optimizer is not None:
        with weights.open("rb") as first, optimizer.open("rb") as second:
            state = TrainingState(safetensors.load(first)[0], *safetensors.load(second))
    corpus = ByteCorpus([path.read_bytes() for path in corpora], parsed)
    return replay(Trainer(parsed, corpus, backend("reference"), state), steps)
