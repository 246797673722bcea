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

from appliance.errors import ContentRefused
from appliance.training.data import Batch, HeldOut
from appliance.training.evaluate import Evaluation, evaluate
from appliance.training.layout import Buffer
from appliance.training.model import GPT, Place

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Lanes:
    """Arenas, gradient buffers and threads for one model and batch size."""

    def __init__(self, model: GPT, batch: int, threads: int) -> None:
        """Cut `batch` sequences, computed by at most `threads` threads."""
        self._model = model
        self._batch = batch
        count = min(model.backend.LANES, batch)
        edges = [batch * lane // count for lane in range(count + 1)]
        self._spans = [slice(*pair) for pair in itertools.pairwise(edges)]
        context = model.config.context
        self._arenas = [model.arena(span.stop - span.start, context) for span in self._spans]
        self._gradients = [Buffer(model.layout, model.backend, model.dtype) for _ in self._spans]
        workers = min(threads, count)
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def loss_and_gradient(self, batch: Batch, place: Place | None = None) -> tuple[float, Buffer]:
        """Mean loss in nats per token and its gradient; the buffer is valid until the next call.

        `batch` may be several times as many sequences as the arenas hold: they are computed one after the
        other, and their gradients gathered. `place` names their first row, for the masks of a dropout.
        """
        losses = list(self._map(lambda lane: self._one(lane, batch, place), range(len(self._spans))))
        total = self._gradients[0]
        for part in self._gradients[1:]:
            total.flat += part.flat
        return sum(losses), total

    def evaluate(self, text: HeldOut) -> Evaluation:
        """How well the present weights predict `text`."""
        return evaluate(self._model, self._arenas, text, self._map)

    def _one(self, lane: int, batch: Batch, place: Place | None) -> float:
        span, gradients, loss = self._spans[lane], self._gradients[lane], 0.0
        gradients.flat[:] = 0.0
        for first in range(0, len(batch.tokens), self._batch):
            part = slice(first + span.start, first + span.stop)
            tokens = batch.tokens[part]
            row = part.start * tokens.shape[1]
            loss += self._model.forward_backward(
                self._arenas[lane],
                gradients,
                tokens,
                batch.targets[part],
                share=len(tokens) / len(batch.tokens),
                place=place and Place(place.seed, place.step, place.first_row + row),
            )
        return loss

    def _map(self, function: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
        def quiet(item: _In) -> _Out:
            # Overflow is looked for by the trainer, where the step is known; NumPy's warning would not name
            # it. The setting belongs to a thread, so it is made in each.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                return function(item)

        return map(quiet, items) if self._pool is None else self._pool.map(quiet, items)


def thread_count(setting: int) -> int:
    """Return the threads that `train.threads` means here: 0 is all cores that this process may use.

    Raises `ContentRefused` for more threads than cores.
    """
    cores = len(os.sched_getaffinity(0))
    if setting > cores:
        raise ContentRefused(
            f"config key train.threads: expected at most the {cores} cores that this process may use, found "
            f'{setting}; lower it, or write "all"'
        )
    return setting or cores
