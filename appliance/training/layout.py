"""Where each tensor of a decoder lies in one flat buffer, and what it is called.

Names and shapes are those of GPT-2's published checkpoints (Radford et al. 2019): weights act from the right,
(inputs, outputs), with queries, keys and values side by side. A SwiGLU has gate and up side by side in
`mlp.c_fc`; a head of its own is `lm_head.weight`, (vocabulary, width) like the table. Matrices come first,
because AdamW decays them and nothing else: each half of the optimizer's work is one slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from appliance.training.config import ModelConfig
from kernels import Backend, Floats

_HIDDEN_STEP = 16  # a SwiGLU's hidden width is rounded up to a multiple of this: a vector of float32


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor: elements [start, stop) of the flat buffer, seen in `shape`."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Layout:
    """All tensors of a model in order; the first `matrices` elements belong to 2-D tensors."""

    slots: tuple[Slot, ...]
    matrices: int
    size: int


def hidden_width(model: ModelConfig) -> int:
    """Return the inputs of the MLP's second matrix: 4·C, or 8/3·C for SwiGLU, so that both weigh the same."""
    if model.activation == "gelu":
        return 4 * model.width
    return -(-8 * model.width // (3 * _HIDDEN_STEP)) * _HIDDEN_STEP


def projected_width(model: ModelConfig) -> int:
    """Return the outputs of the MLP's first matrix: the hidden width, twice for SwiGLU (gate and up)."""
    return hidden_width(model) * (1 if model.activation == "gelu" else 2)


def layout_of(model: ModelConfig) -> Layout:
    """Lay out a decoder: tables of tokens and positions, `layers` blocks, a final norm, an untied head."""
    shapes = _shapes(model)
    ordered = sorted(shapes.items(), key=lambda item: len(item[1]) != 2)  # stable: keeps the model's order
    slots: list[Slot] = []
    start = matrices = 0
    for name, shape in ordered:
        stop = start + math.prod(shape)
        slots.append(Slot(name, shape, start, stop))
        matrices = stop if len(shape) == 2 else matrices
        start = stop
    return Layout(tuple(slots), matrices, start)


def _shapes(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    C, V, hidden, projected = model.width, model.vocabulary, hidden_width(model), projected_width(model)
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (V, C)}
    if model.positions == "learned":
        shapes["wpe.weight"] = (model.context, C)
    for layer in range(model.layers):
        at = f"h.{layer}."
        shapes |= {
            **_norm(model, at + "ln_1"),
            **_linear(at + "attn.c_attn", C, 3 * C),
            **_linear(at + "attn.c_proj", C, C),
            **_norm(model, at + "ln_2"),
            **_linear(at + "mlp.c_fc", C, projected),
            **_linear(at + "mlp.c_proj", hidden, C),
        }
    shapes |= _norm(model, "ln_f")
    return shapes if model.tied_head else shapes | {"lm_head.weight": (V, C)}


def _norm(model: ModelConfig, name: str) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{name}.weight": (model.width,)}
    return weight if model.norm == "rmsnorm" else weight | {f"{name}.bias": (model.width,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


class Buffer:
    """One flat array and a named view of each tensor in it: parameters, gradients or moments."""

    __slots__ = ("flat", "views")

    def __init__(self, layout: Layout, backend: Backend, dtype: npt.DTypeLike = np.float32) -> None:
        self.flat: Floats = backend.zeros((layout.size,), dtype)
        self.views: Mapping[str, Floats] = MappingProxyType(
            {slot.name: self.flat[slot.start : slot.stop].reshape(slot.shape) for slot in layout.slots}
        )
