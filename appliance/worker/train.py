"""Train one model: granted config and corpus in, sealed checkpoints and numbers out.

A checkpoint is the weights and, apart, the optimizer's state with the step; the first is what people use,
the second is what resuming needs. Steps follow from the config, so a stopped and resumed run ends in the same
bits as one that was never stopped.
"""

from __future__ import annotations

import time

from appliance.messages import Channel
from appliance.training import safetensors
from appliance.training.accounting import flops_per_step
from appliance.training.checkpoint import TrainingState
from appliance.training.config import TrainConfig, parse_config
from appliance.training.data import ByteCorpus
from appliance.training.safetensors import Array
from appliance.training.trainer import StepResult, Trainer
from appliance.worker.port import Port, SealedInput, SealedOutput
from appliance.worklink import Begin, Checkpoint, Finished, Progress
from kernels import backend

PROGRESS_S = 0.5
UNKNOWN = -1.0


def run(channel: Channel, begin: Begin) -> None:
    """Carry out one training job to its last step, or to the step at which it is told to stop."""
    port = Port(channel)
    name = str(begin.numbers["name"])
    inputs = port.inputs()
    config = parse_config(_whole(inputs["config"]))
    corpus = ByteCorpus([_whole(port.want_input("corpus", config.data.corpus))], config)
    trainer = Trainer(config, corpus, backend("reference"), _state(inputs))
    _Run(port, config, trainer, name).carry_out()


def _whole(item: SealedInput) -> bytes:
    with item.reader() as reader:
        data = reader.read()
    item.close()
    return data


def _state(inputs: dict[str, SealedInput]) -> TrainingState | None:
    if "weights" not in inputs:
        return None
    weights, _ = _tensors(inputs["weights"])
    optimizer, metadata = _tensors(inputs["optimizer"])
    return TrainingState(weights, optimizer, metadata)


def _tensors(item: SealedInput) -> tuple[dict[str, Array], dict[str, str]]:
    with item.reader() as reader:
        loaded = safetensors.load(reader)
    item.close()
    return loaded


class _Run:
    """The loop around a trainer: when to tell, evaluate, checkpoint and stop."""

    def __init__(self, port: Port, config: TrainConfig, trainer: Trainer, name: str) -> None:
        self._port = port
        self._config = config
        self._trainer = trainer
        self._name = name
        self._told = time.monotonic()
        self._told_step = trainer.next_step
        self._saved_step = -1

    def carry_out(self) -> None:
        """Step until done or stopped; the last state is always checkpointed."""
        trainer, run = self._trainer, self._config.train
        self._tell(None, trainer.evaluate())
        while not trainer.done and not self._port.stop_requested():
            result = trainer.step()
            if trainer.next_step % run.eval_every == 0 or trainer.done:
                self._tell(result, trainer.evaluate())
            elif time.monotonic() - self._told >= PROGRESS_S:
                self._tell(result, UNKNOWN)
            if trainer.next_step % run.checkpoint_every == 0:
                self._checkpoint()
        if self._saved_step != trainer.next_step:
            self._checkpoint()
        self._port.send(Finished(trainer.next_step, stopped=not trainer.done))

    def _tell(self, result: StepResult | None, bits_per_byte: float) -> None:
        trainer, now = self._trainer, time.monotonic()
        tokens = (trainer.next_step - self._told_step) * self._config.train.batch * self._config.model.context
        rate = tokens / (now - self._told) if tokens else UNKNOWN
        loss = result.loss if result else UNKNOWN
        learning_rate = result.learning_rate if result else UNKNOWN
        steps = self._config.train.steps
        self._port.send(Progress(trainer.next_step, steps, loss, bits_per_byte, learning_rate, rate))
        # Evaluation is not part of the rate: the clock starts anew after it.
        self._told, self._told_step = time.monotonic(), trainer.next_step

    def _checkpoint(self) -> None:
        trainer = self._trainer
        weights = self._seal("weights", trainer.weights(), {"step": str(trainer.next_step)})
        optimizer = self._seal("optimizer", *trainer.optimizer_state())
        self._saved_step = trainer.next_step
        flops = trainer.next_step * flops_per_step(self._config)
        seed = self._config.train.seed
        self._port.send(Checkpoint(trainer.next_step, weights, optimizer, flops, seed))

    def _seal(self, kind: str, tensors: dict[str, Array], metadata: dict[str, str]) -> int:
        output: SealedOutput = self._port.want_output(kind, self._name)
        safetensors.write(output.write, tensors, metadata)
        output.close()
        return output.token
