"""Compute a stretch of one training job again: granted config, corpus and state in, digests of states out."""

from __future__ import annotations

import time

from appliance.errors import ProtocolError
from appliance.messages import Channel
from appliance.training.replay import replay
from appliance.training.trainer import StepResult
from appliance.worker.port import Port
from appliance.worker.train import PROGRESS_S, UNKNOWN, prepare
from appliance.worklink import Begin, Finished, Progress, Replayed


def run(channel: Channel, begin: Begin) -> None:
    """Take the steps that the custodian names; it compares what they come to with the log."""
    port = Port(channel)
    trainer = prepare(port, repeat=True)
    told = time.monotonic()

    def tell(result: StepResult) -> None:
        nonlocal told
        if time.monotonic() - told >= PROGRESS_S:
            steps = trainer.config.train.steps
            port.send(Progress(result.step + 1, steps, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN))
            told = time.monotonic()

    for found in replay(trainer, _steps(begin), tell):
        port.send(Replayed(found.step, found.weights, found.optimizer))
    port.send(Finished(trainer.next_step, stopped=False))


def _steps(begin: Begin) -> list[int]:
    steps = begin.numbers.get("steps")
    if not isinstance(steps, list) or not all(isinstance(step, int) for step in steps):
        raise ProtocolError("expected the steps to replay to as a list of numbers")
    return [step for step in steps if isinstance(step, int)]
