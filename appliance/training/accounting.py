"""What a run costs by its config alone: parameters and floating-point operations.

A figure for lineage and progress, not a measurement: matrix products only, two operations per multiply-add,
backward twice the forward, attention counted in full although causal tiles skip part of it (the convention
of Chowdhery et al. 2022, appendix B).
"""

from __future__ import annotations

from appliance.training.config import ModelConfig, TrainConfig
from appliance.training.layout import layout_of


def parameter_count(model: ModelConfig) -> int:
    """Trainable numbers, the tied head counted once."""
    return layout_of(model).size


def flops_per_step(config: TrainConfig) -> int:
    """Operations of one training step: tokens · (6 · matrix weights + 12 · layers · width · context)."""
    model, run = config.model, config.train
    products = layout_of(model).matrices - model.context * model.width  # the position table is only added
    per_token = 6 * products + 12 * model.layers * model.width * model.context
    return run.batch * model.context * per_token
