"""What a run is made of besides its config and corpus: weights, moments, and the step that comes next.

Batches and first weights follow from (seed, step), so the data position and the random state of a run are
both its step number; it stands in the metadata of the optimizer's file, with what must not have changed. A
`Snapshot` is a second copy of all that where it lies, so that it can be written while further steps are
taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from appliance.errors import ContentRefused
from appliance.training import safetensors
from appliance.training.config import TrainConfig
from appliance.training.layout import Buffer
from appliance.training.safetensors import Array
from appliance.training.watch import Watch, parse_watch
from kernels.cuda.array import DeviceArray

FORMAT = "appliance-training-state/2"
_FIRST, _SECOND = "first.", "second."


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands: the step that comes next (0-based), config and backend, and what it remembers."""

    step: int
    config_digest: str
    backend: str
    watch: Watch


@dataclass(frozen=True, slots=True)
class TrainingState:
    """One checkpoint as its two files hold it; `metadata` is that of the optimizer's file."""

    weights: Mapping[str, Array]
    optimizer: Mapping[str, Array]
    metadata: Mapping[str, str]

    @property
    def weights_metadata(self) -> dict[str, str]:
        """Metadata of the file of weights: after how many steps."""
        return {"step": self.metadata["step"]}


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 (hex) of the two files of the state after `step` steps, as they are before they are sealed."""

    step: int
    weights: str
    optimizer: str


class _Hasher:
    """A sealer that keeps nothing but the digest of what it is given."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def seal_from(self, buffer: memoryview) -> None:
        """Hash the next bytes."""
        self.sha256.update(buffer)


def digests_of(state: TrainingState) -> Digests:
    """Hash what `safetensors.write` would write of a state; equal states give equal digests."""
    weights, optimizer = _Hasher(), _Hasher()
    safetensors.write(weights, state.weights, state.weights_metadata)
    safetensors.write(optimizer, state.optimizer, state.metadata)
    return Digests(int(state.metadata["step"]), weights.sha256.hexdigest(), optimizer.sha256.hexdigest())


class Snapshot:
    """Room for one state, used over and over: taking one is a copy in memory, without a new allocation."""

    def __init__(self) -> None:
        self._room: dict[str, Any] = {}

    def take(self, state: TrainingState) -> TrainingState:
        """Copy a state whose tensors are views; the copy is valid until the next call."""
        return TrainingState(
            self._copied("weights", state.weights), self._copied("moments", state.optimizer), state.metadata
        )

    def _copied(self, part: str, tensors: Mapping[str, Any]) -> dict[str, Array]:
        copies: dict[str, Any] = {}
        for name, tensor in tensors.items():
            room = self._room.get(f"{part}/{name}")
            if isinstance(tensor, DeviceArray):
                room = tensor.like() if room is None else room
                tensor.copy_to(room, tensor.device.main)
            else:
                room = np.empty_like(tensor) if room is None else room
                np.copyto(room, tensor, casting="no")
            copies[name] = self._room[f"{part}/{name}"] = room
        return copies


def encode_progress(progress: Progress) -> dict[str, str]:
    """Metadata of the optimizer's file."""
    return {
        "format": FORMAT,
        "step": str(progress.step),
        "config_sha256": progress.config_digest,
        "backend": progress.backend,
        "watch": progress.watch.encode(),
    }


def parse_progress(metadata: Mapping[str, str], config: TrainConfig) -> Progress:
    """Check metadata against the config to resume with; raise `ContentRefused`."""
    expected = {"format", "step", "config_sha256", "backend", "watch"}
    if metadata.keys() != expected or metadata["format"] != FORMAT:
        raise ContentRefused(
            f"checkpoint: expected metadata {', '.join(sorted(expected))} of format {FORMAT}, found "
            f"{', '.join(sorted(metadata))[:200]}: this is no optimizer state of ours"
        )
    if metadata["config_sha256"] != config.digest():
        raise ContentRefused(
            f"checkpoint: expected a state of the config {config.digest()[:16]}…, found one of "
            f"{metadata['config_sha256'][:16]}…; resume with the config that the run began with"
        )
    step = metadata["step"]
    if (
        not (step.isascii() and step.isdecimal() and len(step) <= 10)
        or not 0 <= int(step) <= config.train.steps
    ):
        raise ContentRefused(
            f"checkpoint: expected a step from 0 to {config.train.steps}, found {step[:20]!r}"
        )
    watch = parse_watch(metadata["watch"])
    return Progress(int(step), metadata["config_sha256"], metadata["backend"], watch)


def encode_moments(first: Buffer, second: Buffer) -> dict[str, Array]:
    """Both moments, as `first.<tensor>` and `second.<tensor>`: views, valid until the next step."""
    return {_FIRST + name: view for name, view in first.views.items()} | {
        _SECOND + name: view for name, view in second.views.items()
    }


def split_moments(tensors: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Undo `encode_moments`; raise `ContentRefused` on a tensor that is neither."""
    first: dict[str, Array] = {}
    second: dict[str, Array] = {}
    for name, tensor in tensors.items():
        if name.startswith(_FIRST):
            first[name.removeprefix(_FIRST)] = tensor
        elif name.startswith(_SECOND):
            second[name.removeprefix(_SECOND)] = tensor
        else:
            raise ContentRefused(f"checkpoint: expected tensors first.* and second.*, found {name[:80]!r}")
    return first, second
