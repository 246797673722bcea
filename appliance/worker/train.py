"""Train one model: granted config and corpus in, sealed checkpoints and numbers out.

A checkpoint is the weights and, apart, the optimizer's state with the step; the first is what people use,
the second is what resuming needs. Steps follow from the config, so a stopped and resumed run ends in the same
bits as one that was never stopped. A checkpoint that does not open is reported, and the one before it asked
for.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from appliance.errors import ContentRefused, IntegrityError, JobFailed
from appliance.messages import Channel
from appliance.training.checkpoint import TrainingState, parse_progress
from appliance.training.communicator import ALONE, Communicator
from appliance.training.config import TrainConfig, parse_config
from appliance.training.keys import NOTHING
from appliance.training.lanes import thread_count
from appliance.training.safetensors import Array
from appliance.training.tensorfile import TensorFile
from appliance.training.trainer import StepResult, Trainer
from appliance.worker.checkpoints import Checkpoints
from appliance.worker.corpora import open_corpus
from appliance.worker.meter import Meter
from appliance.worker.port import Port, SealedInput
from appliance.worker.ranks import joined
from appliance.worklink import Alive, Began, Begin, Damaged, Finished, Progress
from kernels import Backend, backend, fastest
from kernels.errors import BackendMissing

PROGRESS_S = 0.5
UNKNOWN = -1.0


def run(channel: Channel, begin: Begin) -> None:
    """Carry out one training job to its last step, or to the step at which it is told to stop."""
    port = Port(channel)
    name = str(begin.numbers["name"])
    ranks = joined()
    trainer = prepare(port, ranks, name)
    _Run(port, trainer, name, ranks).carry_out()


def prepare(
    port: Port, ranks: Communicator = ALONE, name: str | None = None, *, repeat: bool = False
) -> Trainer:
    """Open what the custodian grants, ask for the corpus that the config names, and be ready to step.

    A job has a `name`, under which it seals; to `repeat` a stretch nothing is sealed. The fastest backend
    computes; to repeat, the one that made the state, where this machine has it.
    """
    inputs = port.inputs()
    config = parse_config(bytes(whole(inputs["config"])))
    state = _sound_state(port, inputs, config)
    before = None if state is None else parse_progress(state.metadata, config)
    threads = max(1, thread_count(config.train.threads) // ranks.size)
    ops = _arithmetic(threads, before.backend if before and repeat else "")
    sys.stderr.write(f"computing on {ops.NAME}, {threads} threads, {config.train.precision}\n")
    port.send(Began(before.step if before else 0, before.backend if before else ops.NAME, ops.NAME, threads))
    corpus = open_corpus(port, config, name, makes=state is None and ranks.rank == 0)
    trainer = Trainer(config, corpus, ops, state, ranks)
    if state is None and config.train.init_from != NOTHING:
        parent = port.want_input("weights", config.train.init_from)
        with parent.reader() as reader:
            trainer.model.open(TensorFile(reader))
        parent.close()
    return trainer


def _arithmetic(threads: int, name: str) -> Backend:
    """Return the backend of this name where there is one, else the fastest."""
    if name:
        try:
            return backend(name, threads=threads)
        except BackendMissing as missing:
            sys.stderr.write(f"{missing}\n")
    ops, why_not_faster = fastest(threads=threads)
    sys.stderr.write(f"{why_not_faster}\n" if why_not_faster else "")
    return ops


def whole(item: SealedInput) -> bytearray:
    """Open one input to its last byte."""
    with item.reader() as reader:
        data = bytearray(reader.size)
        reader.open_into(data, 0)
    item.close()
    return data


def state_of(inputs: dict[str, SealedInput]) -> TrainingState:
    """Open the two objects of a checkpoint; raises IntegrityError or ContentRefused."""
    weights, _ = _tensors(inputs["weights"])
    optimizer, metadata = _tensors(inputs["optimizer"])
    return TrainingState(weights, optimizer, metadata)


def _tensors(item: SealedInput) -> tuple[dict[str, Array], dict[str, str]]:
    with item.reader() as reader:
        file = TensorFile(reader)
        loaded = file.load()
    item.close()
    return loaded, dict(file.header.metadata)


def _sound_state(port: Port, inputs: dict[str, SealedInput], config: TrainConfig) -> TrainingState | None:
    """Open the newest checkpoint that can be opened, None where the job has none."""
    while "weights" in inputs:
        try:
            state = state_of(inputs)
            parse_progress(state.metadata, config)
        except (IntegrityError, ContentRefused):
            port.send(Damaged())
            inputs = port.inputs()
            continue
        return state
    return None


class _Run:
    """The loop around a trainer: when to tell, evaluate, checkpoint and stop; all ranks go the same way."""

    def __init__(self, port: Port, trainer: Trainer, name: str, ranks: Communicator) -> None:
        self._port = port
        self._config = trainer.config
        self._trainer = trainer
        self._ranks = ranks
        self._name = name
        self._checkpoints = Checkpoints(port, name)
        self._meter = Meter(port, trainer, trainer.model.backend, self._checkpoints)
        self._told = time.monotonic()
        self._told_step = trainer.next_step

    def carry_out(self) -> None:
        """Step until done or stopped; the last state is always checkpointed."""
        trainer, run, checkpoints = self._trainer, self._config.train, self._checkpoints
        self._tell(None, trainer.evaluate().bits_per_byte)
        stopped = False
        while not trainer.done and not stopped:  # a stop comes after the present step: one is always taken
            result = self._step()
            if trainer.next_step % run.eval_every == 0 or trainer.done:
                self._tell(result, trainer.evaluate().bits_per_byte)
            elif time.monotonic() - self._told >= PROGRESS_S:
                self._tell(result, UNKNOWN)
            if self._leads and trainer.next_step % run.checkpoint_every == 0:
                checkpoints.save(trainer)
            stopped = self._stopped()
        if self._leads:
            if checkpoints.saved_step != trainer.next_step:
                checkpoints.save(trainer)
            checkpoints.settle()
            self._meter.report(self._name)
        self._port.send(Finished(trainer.next_step, stopped=not trainer.done))

    @property
    def _leads(self) -> bool:
        """Whether this rank is the one that seals and tells."""
        return self._ranks.rank == 0

    def _stopped(self) -> bool:
        """Whether rank 0 was told to stop: all ranks hear of it at the same step."""
        asked = np.array([float(self._port.stop_requested())])
        self._ranks.sum(asked)
        return bool(asked[0])

    def _step(self) -> StepResult:
        self._checkpoints.check()
        try:
            return self._meter.step()
        except JobFailed:  # what was good before must still be sealed to its end
            self._checkpoints.settle()
            raise

    def _tell(self, result: StepResult | None, bits_per_byte: float) -> None:
        trainer, now = self._trainer, time.monotonic()
        if not self._leads:
            self._port.send(Alive(trainer.next_step))
            self._told = now
            return
        self._meter.tell()
        run, model = self._config.train, self._config.model
        tokens = (trainer.next_step - self._told_step) * run.sequences * model.context
        rate = tokens / (now - self._told) if tokens else UNKNOWN
        loss = result.loss if result else UNKNOWN
        learning_rate = result.learning_rate if result else UNKNOWN
        steps = self._config.train.steps
        self._port.send(Progress(trainer.next_step, steps, loss, bits_per_byte, learning_rate, rate))
        # Evaluation is not part of the rate: the clock starts anew after it.
        self._told, self._told_step = time.monotonic(), trainer.next_step
