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
    """Operations of one training step: tokens · (6 · matrix weights + 12 · layers · width · context).

    Tables whose rows are only looked up and added are no matrix weights; a tied token table is the head.
    """
    model, run = config.model, config.train
    layout = layout_of(model)
    looked_up = ("wpe.weight",) if model.tied_head else ("wpe.weight", "wte.weight")
    added = sum(slot.stop - slot.start for slot in layout.slots if slot.name in looked_up)
    per_token = 6 * (layout.matrices - added) + 12 * model.layers * model.width * model.context
    return run.sequences * model.context * per_token
