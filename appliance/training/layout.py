"""Where each tensor of a decoder lies in one flat buffer, and what it is called.

Names and shapes are those of GPT-2's published checkpoints (Radford et al. 2019): weights act from the right,
(inputs, outputs), with queries, keys and values side by side. Matrices come first, because AdamW decays them
and nothing else: each half of the optimizer's work is one slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from appliance.training.config import VOCABULARY, ModelConfig
from kernels import Backend, Floats


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


def layout_of(model: ModelConfig) -> Layout:
    """Lay out a decoder: token and position tables, `layers` blocks, a final norm; the head is tied."""
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
    C = model.width
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (VOCABULARY, C), "wpe.weight": (model.context, C)}
    for layer in range(model.layers):
        at = f"h.{layer}."
        shapes |= {
            f"{at}ln_1.weight": (C,),
            f"{at}ln_1.bias": (C,),
            f"{at}attn.c_attn.weight": (C, 3 * C),
            f"{at}attn.c_attn.bias": (3 * C,),
            f"{at}attn.c_proj.weight": (C, C),
            f"{at}attn.c_proj.bias": (C,),
            f"{at}ln_2.weight": (C,),
            f"{at}ln_2.bias": (C,),
            f"{at}mlp.c_fc.weight": (C, 4 * C),
            f"{at}mlp.c_fc.bias": (4 * C,),
            f"{at}mlp.c_proj.weight": (4 * C, C),
            f"{at}mlp.c_proj.bias": (C,),
        }
    return shapes | {"ln_f.weight": (C,), "ln_f.bias": (C,)}


class Buffer:
    """One flat array and a named view of each tensor in it: parameters, gradients or moments."""

    __slots__ = ("flat", "views")

    def __init__(self, layout: Layout, backend: Backend, dtype: npt.DTypeLike = np.float32) -> None:
        self.flat: Floats = backend.zeros((layout.size,), dtype)
        self.views: Mapping[str, Floats] = MappingProxyType(
            {slot.name: self.flat[slot.start : slot.stop].reshape(slot.shape) for slot in layout.slots}
        )
