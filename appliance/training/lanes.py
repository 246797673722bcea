"""A batch in lanes: parts of fixed size that threads compute side by side, summed in a fixed order.

A backend that computes on one thread (NumPy with single-threaded BLAS) uses several cores this way. How a
batch is cut follows from the backend and the batch alone, so the bits of a gradient do not depend on how many
threads, or how busy cores, computed its parts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from appliance.training.data import Batch
from appliance.training.evaluate import bits_per_byte
from appliance.training.layout import Buffer
from appliance.training.model import GPT

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Lanes:
    """Arenas, gradient buffers and threads for one model and batch size."""

    def __init__(self, model: GPT, batch: int, threads: int | None = None) -> None:
        """Cut `batch` sequences; `threads` defaults to the cores this process may use."""
        self._model = model
        count = min(model.backend.LANES, batch)
        edges = [batch * lane // count for lane in range(count + 1)]
        self._spans = [slice(*pair) for pair in itertools.pairwise(edges)]
        context = model.config.context
        self._arenas = [model.arena(span.stop - span.start, context) for span in self._spans]
        self._gradients = [Buffer(model.layout, model.backend, model.dtype) for _ in self._spans]
        cores = threads if threads is not None else len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(min(cores, count)) if min(cores, count) > 1 else None

    def loss_and_gradient(self, batch: Batch) -> tuple[float, Buffer]:
        """Mean loss in nats per token and its gradient; the buffer is valid until the next call."""
        losses = list(self._map(lambda lane: self._one(lane, batch), range(len(self._spans))))
        total = self._gradients[0]
        for part in self._gradients[1:]:
            total.flat += part.flat
        return sum(losses), total

    def evaluate(self, stream: npt.NDArray[np.uint8]) -> float:
        """Bits per byte of `stream` under the present weights."""
        return bits_per_byte(self._model, self._arenas, stream, self._map)

    def _one(self, lane: int, batch: Batch) -> float:
        span, gradients = self._spans[lane], self._gradients[lane]
        gradients.flat[:] = 0.0
        return self._model.forward_backward(
            self._arenas[lane],
            gradients,
            batch.tokens[span],
            batch.targets[span],
            share=(span.stop - span.start) / len(batch.tokens),
        )

    def _map(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        def quiet(item: _In) -> _Out:
            # Overflow is looked for by the trainer, where the step is known; NumPy's warning would not name
            # it. The setting belongs to a thread, so it is made in each.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return function(item)

        return map(quiet, items) if self._pool is None else self._pool.map(quiet, items)
