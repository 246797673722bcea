"""One training run as a plain object: `step()` until `done`; the caller owns time, events and files.

Guarantees, on one backend and machine: two runs of one config and corpus give equal bits, and so does a run
that was stopped after any step and resumed from its state. A step whose loss or gradient is not finite, or
whose loss is a spike, changes nothing: the weights are still those after the step before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from appliance.errors import ContentRefused, JobFailed
from appliance.training import accounting, checkpoint
from appliance.training.checkpoint import Progress, TrainingState
from appliance.training.communicator import ALONE, Communicator, share_of
from appliance.training.config import TrainConfig
from appliance.training.data import Batch, Corpus
from appliance.training.evaluate import Evaluation
from appliance.training.lanes import Lanes, thread_count
from appliance.training.layout import Buffer
from appliance.training.memory import check_card, check_memory
from appliance.training.model import GPT, Place, fill, fill_from
from appliance.training.optimizer import AdamW
from appliance.training.safetensors import Array
from appliance.training.schedule import learning_rate
from appliance.training.tensorfile import TensorFile
from appliance.training.watch import Watch
from kernels import Backend


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step: number (0-based), mean loss in nats per token, gradient norm before clipping, rate."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int


class Trainer:
    """A run at some step. Everything it needs is in its arguments."""

    def __init__(
        self,
        config: TrainConfig,
        corpus: Corpus,
        backend: Backend,
        state: TrainingState | None = None,
        communicator: Communicator = ALONE,
    ) -> None:
        """Start at step 0, or go on from `state`; raise `ContentRefused` when it is not of this run.

        With a `communicator` of several ranks this one computes its share of each batch. A state of another
        backend is taken: the run goes on, and its bits are no longer those of one that
        never changed backends.
        """
        if config.train.precision not in backend.PRECISIONS:
            raise ContentRefused(
                f"config key train.precision: expected one of {', '.join(backend.PRECISIONS)}, in which the "
                f"backend {backend.NAME!r} computes on this machine, found {config.train.precision!r}"
            )
        threads = thread_count(config.train.threads)
        check_memory(config, min(backend.LANES, config.train.batch))
        self.config = config
        self.corpus = corpus
        if (room := backend.room()) is not None:
            check_card(config, room, backend.NAME)
        self.model = GPT(
            config.model, backend, precision=config.train.precision, recompute=config.train.recompute
        )
        self._backend = backend
        self._ranks = communicator
        self._optimizer = AdamW(self.model.layout, backend)
        mine = share_of(config.train.batch, communicator)
        self._lanes = Lanes(self.model, mine.stop - mine.start, threads)
        self._watch = Watch()
        self._step = 0
        if state is None:
            self.model.initialise(config.train.seed)
        else:
            self._restore(state)

    @classmethod
    def resume(
        cls,
        config: TrainConfig,
        corpus: Corpus,
        backend: Backend,
        *,
        weights: Mapping[str, Array],
        optimizer: Mapping[str, Array],
        metadata: Mapping[str, str],
    ) -> Trainer:
        """Go on from what `weights()` and `optimizer_state()` gave."""
        return cls(config, corpus, backend, TrainingState(weights, optimizer, metadata))

    @property
    def next_step(self) -> int:
        """How many steps have been taken, which is the number of the next one."""
        return self._step

    @property
    def done(self) -> bool:
        """Whether all steps of the config have been taken, or evaluations have long brought no gain."""
        run = self.config.train
        return self._step >= run.steps or bool(run.patience and self._watch.idle >= run.patience)

    @property
    def flops(self) -> int:
        """Operations spent so far, by `accounting`'s formula."""
        return self._step * accounting.flops_per_step(self.config)

    def step(self) -> StepResult:
        """Take one step; raise `JobFailed`, naming it and a tensor, when the loss ends or jumps."""
        step, run = self._step, self.config.train
        if self.done:
            raise JobFailed(
                f"step {step}: expected at most train.steps = {run.steps} steps, and none once "
                "train.patience evaluations brought no gain; the run is complete"
            )
        batch = self.corpus.batch(step)
        mine = share_of(len(batch.tokens), self._ranks)
        local = Batch(batch.tokens[mine], batch.targets[mine])
        place = Place(run.seed, step, mine.start * self.config.model.context)
        loss, gradients = self._together(*self._lanes.loss_and_gradient(local, place))
        norm = self._backend.global_norm(gradients.flat)
        _check_finite(step, loss, norm, gradients)
        _check_spike(step, loss, self._watch.limit(run.spike), gradients)
        rate = learning_rate(run, step)
        self._optimizer.update(
            self.model.parameters, gradients, run, step=step, learning_rate=rate, norm=norm
        )
        self._watch = self._watch.after_step(loss)
        self._step = step + 1
        return StepResult(step, loss, norm, rate, batch.tokens.size)

    def _together(self, loss: float, gradients: Buffer) -> tuple[float, Buffer]:
        """Turn the means of this rank's share into those of the whole batch."""
        if self._ranks.size > 1:
            gradients.flat /= self._ranks.size
            self._ranks.sum(gradients.flat)
            shared = np.array([loss / self._ranks.size])
            self._ranks.sum(shared)
            loss = float(shared[0])
        return loss, gradients

    def evaluate(self) -> Evaluation:
        """Predict the held-out text with the present weights, which stay as they are.

        With `train.patience`, an evaluation that is due (every `eval_every` steps) counts. Raises `JobFailed`
        when the figure is not finite.
        """
        found = self._lanes.evaluate(self.corpus.held_out)
        if not math.isfinite(found.bits_per_byte):
            raise JobFailed(
                f"evaluation before step {self._step}: expected finite bits per byte, found "
                f"{found.bits_per_byte}. Lower train.learning_rate and start from the last checkpoint"
            )
        run = self.config.train
        if run.patience and self._step % run.eval_every == 0:
            self._watch = self._watch.after_evaluation(self._step, found.bits_per_byte)
        return found

    def weights(self) -> dict[str, Array]:
        """Tensors by name: views, valid until the next step."""
        return dict(self.model.parameters.views)

    def optimizer_state(self) -> tuple[dict[str, Array], dict[str, str]]:
        """Moments by name (views, valid until the next step) and the metadata to keep with them."""
        moments = checkpoint.encode_moments(self._optimizer.first, self._optimizer.second)
        progress = Progress(self._step, self.config.digest(), self._backend.NAME, self._watch)
        return moments, checkpoint.encode_progress(progress)

    def state(self) -> TrainingState:
        """Everything that a checkpoint holds: views, valid until the next step."""
        return TrainingState(self.weights(), *self.optimizer_state())

    def open(self, weights: TensorFile, optimizer: TensorFile) -> None:
        """Go on from a sealed checkpoint, opened straight into this run's arrays; errors as at the start.

        What raises leaves the run unusable.
        """
        progress = checkpoint.parse_progress(optimizer.header.metadata, self.config)
        moments = checkpoint.encode_moments(self._optimizer.first, self._optimizer.second)
        self.model.open(weights)
        fill_from(moments, optimizer, "checkpoint, moments", self._backend)
        self._step, self._watch = progress.step, progress.watch

    def _restore(self, state: TrainingState) -> None:
        progress = checkpoint.parse_progress(state.metadata, self.config)
        first, second = checkpoint.split_moments(state.optimizer)
        self.model.load(state.weights)
        fill(self._optimizer.first, first, "checkpoint, first moments")
        fill(self._optimizer.second, second, "checkpoint, second moments")
        self._step, self._watch = progress.step, progress.watch


def _check_finite(step: int, loss: float, norm: float, gradients: Buffer) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    broken = [name for name, view in gradients.views.items() if not np.isfinite(view).all()]
    raise JobFailed(
        f"step {step}: expected a finite loss and gradient, found loss {loss} and gradient norm {norm}"
        + (f", first in tensor {broken[0]}" if broken else "")
        + "; the weights are unchanged since the step before. Lower train.learning_rate or train.clip "
        "and start from the last checkpoint"
    )


def _check_spike(step: int, loss: float, limit: float, gradients: Buffer) -> None:
    if loss <= limit:
        return
    largest = max(gradients.views, key=lambda name: float(np.square(gradients.views[name]).sum()))
    raise JobFailed(
        f"step {step}: expected a loss of at most {limit:.4g} nats, train.spike times its running mean, "
        f"found {loss:.4g}, with the largest gradient in tensor {largest}; the weights are unchanged since "
        "the step before. Lower train.learning_rate or train.clip, or raise train.spike, and start from the "
        "last checkpoint"
    )
