"""Checkpoints sealed beside the run: a state is copied between two steps, and sealed while others are taken.

There is one copy. A state that comes before the one before it is sealed waits for it: the steps at which
checkpoints lie follow from the config alone, however slow the disk is. A failure (no room, say) is raised by
whatever is called next, and the checkpoint before it stands.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from appliance.training import safetensors
from appliance.training.accounting import flops_per_step
from appliance.training.checkpoint import Snapshot, TrainingState
from appliance.training.safetensors import Array
from appliance.training.trainer import Trainer
from appliance.worker.port import Port
from appliance.worklink import Checkpoint


class Checkpoints:
    """The sealed states of one run."""

    def __init__(self, port: Port, name: str) -> None:
        self.saved_step = -1
        self.waited_s = 0.0
        """How long steps stood still for a copy, or for a seal that was not yet complete."""
        self._port = port
        self._name = name
        self._snapshot = Snapshot()
        self._sealer = ThreadPoolExecutor(1, "sealer")
        self._pending: Future[None] | None = None

    def save(self, trainer: Trainer) -> None:
        """Copy the present state and have it sealed; raises what an earlier seal failed with."""
        began = time.monotonic()
        self.settle()
        state = self._snapshot.take(trainer.state())
        self._pending = self._sealer.submit(self._seal, trainer.next_step, trainer, state)
        self.saved_step = trainer.next_step
        self.waited_s += time.monotonic() - began

    def settle(self) -> None:
        """Wait until nothing is being sealed; raises what the seal failed with."""
        if self._pending is not None:
            self._pending.result()

    def check(self) -> None:
        """Raise what a seal failed with, without waiting for one that is at work."""
        if self._pending is not None and self._pending.done():
            self._pending.result()

    def _seal(self, step: int, trainer: Trainer, state: TrainingState) -> None:
        config = trainer.config
        weights = self._write("weights", state.weights, state.weights_metadata)
        optimizer = self._write("optimizer", state.optimizer, state.metadata)
        flops, keep = step * flops_per_step(config), config.keep
        self._port.send(
            Checkpoint(step, weights, optimizer, flops, config.train.seed, keep.last, keep.best, keep.every)
        )

    def _write(self, kind: str, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> int:
        output = self._port.want_output(kind, self._name)
        safetensors.write(output, tensors, metadata)
        output.close()
        return output.token
