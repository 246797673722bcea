"""The learning rate of each step: a linear warm-up, then half a cosine (Loshchilov & Hutter 2017, eq. 5)."""

from __future__ import annotations

import math

from appliance.training.config import RunConfig


def learning_rate(run: RunConfig, step: int) -> float:
    """Rate of `step` (0-based): the peak is reached at step `warmup_steps`, the minimum at the last step."""
    if step < run.warmup_steps:
        return run.learning_rate * (step + 1) / (run.warmup_steps + 1)
    span = max(1, run.steps - 1 - run.warmup_steps)
    progress = min(1.0, (step - run.warmup_steps) / span)
    fall = 0.5 * (1.0 + math.cos(math.pi * progress))
    return run.learning_rate * fall + run.min_learning_rate * (1.0 - fall)
