"""What a run computes by its config alone: parameters, and floating-point operations counted op by op.

An addition, product, division, comparison, root or exponential is one operation: a multiply-add is two.
Matrix products are counted by their sizes, causal attention by the pairs that it looks at, T·(T+1)/2 a head.
What goes through its elements once is counted by its formula in `kernels.reference`. Work that a backend does
besides, such as the masked part of a tile, is no part of it.

Shapes: N = B·T rows of a step, C width, F hidden width, P outputs of the MLP's first matrix, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.training.config import ModelConfig, TrainConfig
from appliance.training.layout import hidden_width, layout_of, projected_width

# Operations per element: forward, backward to the inputs, backward to the parameters, computed a second time.
_PER_ELEMENT: Mapping[str, tuple[int, int, int, int]] = {
    "layernorm": (7, 8, 3, 2),  # mean, centre, square and sum, scale, weight, bias; normalised once more
    "rmsnorm": (4, 6, 2, 1),
    "gelu": (9, 9, 0, 8),  # as x times a sigmoid of a cubic
    "swiglu": (5, 7, 0, 4),  # per element of the result
    "rotary": (3, 3, 0, 0),  # per element of queries and keys: two products, one sum
    "dropout": (1, 1, 0, 0),
    "residual": (1, 1, 0, 0),
    "softmax": (5, 4, 0, 3),  # per score: scale, largest, exponential, sum, division
    "cross_entropy": (4, 2, 0, 2),  # per logit
}
_ADAMW = 15  # per parameter: clipping, both moments, their corrections, root, division, decay, step
_NORM = 2  # per parameter


@dataclass(frozen=True, slots=True)
class Operations:
    """Of one op in one step; `recompute` is what the backward computes a second time."""

    forward: int = 0
    backward_inputs: int = 0
    backward_parameters: int = 0
    recompute: int = 0

    @property
    def total(self) -> int:
        """All four together."""
        return self.forward + self.backward_inputs + self.backward_parameters + self.recompute

    def __add__(self, other: Operations) -> Operations:
        return Operations(
            self.forward + other.forward,
            self.backward_inputs + other.backward_inputs,
            self.backward_parameters + other.backward_parameters,
            self.recompute + other.recompute,
        )


def parameter_count(model: ModelConfig) -> int:
    """Trainable numbers, the tied head counted once."""
    return layout_of(model).size


def operations_per_step(config: TrainConfig) -> dict[str, Operations]:
    """Operations of one training step by op."""
    model, rows = config.model, config.train.sequences * config.model.context
    parameters, L = parameter_count(model), model.layers
    C, F, P, V = model.width, hidden_width(model), projected_width(model), model.vocabulary
    learned = model.positions == "learned"
    linear = _linear(rows, C, 3 * C) + _linear(rows, C, C) + _linear(rows, C, P) + _linear(rows, F, C)
    found = {
        "embedding": Operations(rows * C * learned, 0, rows * C * (1 + learned)),
        "linear": _times(linear, L),
        "attention": _times(_attention(model, config.train.sequences), L),
        model.norm: _by_element(model.norm, rows * C * (2 * L + 1)),
        model.activation: _by_element(model.activation, rows * F * L),
        "residual": _by_element("residual", rows * C * 2 * L),
        "head": _times(Operations(rows * C * V, rows * C * V, rows * C * V), 2),
        "cross_entropy": _by_element("cross_entropy", rows * V),
        "optimizer": Operations(forward=(_ADAMW + _NORM) * parameters),
    }
    if not learned:
        found["rotary"] = _by_element("rotary", rows * 2 * C * L)
    if model.dropout:
        found["dropout"] = _by_element("dropout", rows * C * (2 * L + 1))
    return found


def flops_per_step(config: TrainConfig) -> int:
    """Operations of one training step, all ops together."""
    return sum(operations.total for operations in operations_per_step(config).values())


def _linear(rows: int, inputs: int, outputs: int) -> Operations:
    product = 2 * rows * inputs * outputs
    return Operations(product + rows * outputs, product, product + rows * outputs)


def _attention(model: ModelConfig, sequences: int) -> Operations:
    """Scores and their sum over values forward; four products backward, and the scores once more."""
    pairs = sequences * model.context * (model.context + 1) // 2
    product = 2 * pairs * model.width
    return Operations(2 * product, 4 * product, 0, product) + _by_element("softmax", pairs * model.heads)


def _by_element(op: str, elements: int) -> Operations:
    return _times(Operations(*_PER_ELEMENT[op]), elements)


def _times(operations: Operations, count: int) -> Operations:
    return Operations(
        operations.forward * count,
        operations.backward_inputs * count,
        operations.backward_parameters * count,
        operations.recompute * count,
    )
