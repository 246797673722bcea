"""The learning rate of each step: a linear warm-up, then one of three ways to fall.

`cosine` falls along half a cosine (Loshchilov & Hutter 2017, eq. 5) and `linear` along a line, both from the
end of the warm-up to the last step. `stable` keeps the peak and falls along a line in the last steps only
(warm-up, stable, decay: Hu et al. 2024, section 4.2).
"""

from __future__ import annotations

import math

from appliance.training.config import RunConfig


def learning_rate(run: RunConfig, step: int) -> float:
    """Rate of `step` (0-based): the peak is reached at step `warmup_steps`, the minimum at the last step."""
    if step < run.warmup_steps:
        return run.learning_rate * (step + 1) / (run.warmup_steps + 1)
    last = run.steps - 1
    begin = run.warmup_steps
    if run.schedule == "stable":
        begin = max(begin, last - math.ceil(run.decay_fraction * run.steps))
    progress = min(1.0, max(0, step - begin) / max(1, last - begin))
    left = 0.5 * (1.0 + math.cos(math.pi * progress)) if run.schedule == "cosine" else 1.0 - progress
    return run.learning_rate * left + run.min_learning_rate * (1.0 - left)
