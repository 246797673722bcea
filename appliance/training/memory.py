"""What a run will take of the machine's memory, by its config alone, and the refusal of what does not fit.

Counted, not guessed, where arrays are laid out: the arena of a batch is built once over an allocator that
only adds up. Temporaries of the ops and the interpreter are an allowance, as measured with the reference
backend.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused
from appliance.training.arena import Arena
from appliance.training.config import TrainConfig
from appliance.training.layout import layout_of, projected_width
from appliance.training.room import machine_bytes, room_bytes
from kernels import Floats

_MIB = 1 << 20
_FLOAT_BYTES, _HALF_BYTES = 4, 2
_INTERPRETER_BYTES = 150 * _MIB  # measured with Python 3.11, NumPy and this package loaded, November 2026
_SNAPSHOT_COPIES = 3  # a checkpoint that is being sealed is a second copy of weights and both moments


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that a run takes, by what they hold."""

    weights: int
    gradients: int
    moments: int
    checkpoint: int
    activations: int
    temporaries: int
    corpus: int

    @property
    def total(self) -> int:
        """All of it, with what the interpreter takes before it begins."""
        return (
            self.weights
            + self.gradients
            + self.moments
            + self.checkpoint
            + self.activations
            + self.temporaries
            + self.corpus
            + _INTERPRETER_BYTES
        )


def estimate(config: TrainConfig, lanes: int) -> Estimate:
    """Add up what a run takes when each batch is cut into `lanes` parts, each with gradients of its own.

    Of the corpus, at most `data.memory` is held, as tokens of at most four bytes for each byte of text.
    """
    model, run = config.model, config.train
    size = layout_of(model).size * _FLOAT_BYTES
    rows = run.batch * model.context
    widest = max(model.vocabulary, projected_width(model), 3 * model.width)
    return Estimate(
        weights=size,
        gradients=lanes * size,
        moments=2 * size,
        checkpoint=_SNAPSHOT_COPIES * size,
        activations=arena_bytes(config, run.batch),
        temporaries=2 * rows * widest * _FLOAT_BYTES,
        corpus=2 * config.data.memory * _MIB,
    )


def arena_bytes(config: TrainConfig, batch: int) -> int:
    """Bytes of the arrays of an arena for `batch` sequences; none is made."""
    taken = 0

    def count(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Floats:
        nonlocal taken
        dtype = np.dtype(dtype)
        taken += dtype.itemsize * int(np.prod(shape, dtype=object))
        return np.empty(0, np.float32)

    run = config.train
    Arena(
        config.model, batch, config.model.context, count, np.float32, run.precision, recompute=run.recompute
    )
    return taken


def check_memory(config: TrainConfig, lanes: int, available: int | None = None) -> None:
    """Refuse a run that is estimated beyond `train.memory`, or beyond the machine, with the numbers.

    `available` are the bytes of the machine that is meant; None: what this process may take of this one.
    """
    room = room_bytes() if available is None else available
    needed, budget = estimate(config, lanes), min(room, config.train.memory * _MIB or room)
    if needed.total <= budget:
        return
    parts = ", ".join(
        f"{name} {getattr(needed, name) // _MIB}"
        for name in ("weights", "gradients", "moments", "checkpoint", "activations", "temporaries", "corpus")
    )
    source = "train.memory" if budget < room else "the machine"
    if budget == room and available is None and room < machine_bytes():
        source = "the control group that this runs in"
    raise ContentRefused(
        f"config: expected a run within the {budget // _MIB} MiB of {source}, found an estimate of "
        f"{needed.total // _MIB} MiB ({parts}); lower train.batch and raise train.accumulate, or lower "
        "data.memory, model.context, model.width or model.layers"
    )


def card_bytes(config: TrainConfig) -> dict[str, int]:
    """Bytes of a device that a run takes before it seals anything, by what they hold.

    A checkpoint that is sealed beside the run takes a copy of weights and moments more.
    """
    model, run = config.model, config.train
    size = layout_of(model).size * _FLOAT_BYTES
    rows = run.batch * model.context
    widest = max(model.vocabulary, projected_width(model), 3 * model.width)
    return {
        "weights": size,
        "gradients": size,
        "moments": 2 * size,
        "activations": arena_bytes(config, run.batch),
        "products": widest * model.width * _HALF_BYTES + 2 * rows * 4 * model.width * _HALF_BYTES,
    }


def check_card(config: TrainConfig, available: int, name: str) -> None:
    """Refuse a run that is estimated beyond the `available` bytes of a card, with the numbers."""
    parts = card_bytes(config)
    needed = sum(parts.values())
    if needed <= available:
        return
    told = ", ".join(f"{part} {size // _MIB}" for part, size in parts.items())
    raise ContentRefused(
        f"config: expected a run within the {available // _MIB} MiB that are free on {name}, found an "
        f"estimate of {needed // _MIB} MiB ({told}); lower train.batch and raise train.accumulate, set "
        "train.recompute, or choose a smaller model"
    )
