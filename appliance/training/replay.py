"""A stretch of training computed again, and what its states hash to: the ground of a replay audit.

Guarantees that two runs of equal config, corpora and first state on one backend, with one thread count, give
equal digests; whoever gets another one had another input, another program or another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from appliance.errors import UsageError
from appliance.training.checkpoint import Digests, digests_of
from appliance.training.trainer import StepResult, Trainer


def replay(
    trainer: Trainer, steps: Sequence[int], each: Callable[[StepResult], object] = lambda _: None
) -> Iterator[Digests]:
    """Step on and yield the digests of the state after each of `steps`, which ascend; `each` sees every step.

    Raises UsageError for a step that lies behind or beyond the run, and whatever a step raises.
    """
    run = trainer.config.train
    if run.patience:
        trainer.evaluate()
    for wanted in steps:
        if not trainer.next_step <= wanted <= run.steps:
            raise UsageError(
                f"replay: expected steps from {trainer.next_step} to {run.steps}, ascending, found {wanted}"
            )
        while trainer.next_step < wanted:
            each(trainer.step())
            if run.patience and trainer.next_step % run.eval_every == 0:
                trainer.evaluate()  # how long there was no gain is part of the state
        yield digests_of(trainer.state())
