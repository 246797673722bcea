"""The one header that weights trained here can have.

Guarantees to whoever has a file of weights judged: names, shapes, types, order, spacing and metadata are,
byte for byte, what `safetensors.write` makes of a decoder as large as this one. A header has then no room for
anything but the sizes of a model and a count of steps; a captured trainer cannot put text there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np

from appliance.errors import ContentRefused
from appliance.training.config import ModelConfig
from appliance.training.layout import layout_of
from appliance.training.safetensors import Header, encode_header, read_header

Shapes = Mapping[str, tuple[int, ...]]

_STEP: Final = re.compile(r"0|[1-9][0-9]{0,11}")
_ZERO: Final = np.zeros((), np.float32)
_MATRIX: Final = 2  # dimensions


def demand_trained(head: bytes | bytearray, size_bytes: int, model: ModelConfig | None = None) -> Header:
    """Check a header, prefix included, of a file of `size_bytes`: that of `model`, or else of any decoder.

    Raises ContentRefused for a header that is malformed, of another model, or not written as we write it.
    """
    header = read_header(head, size_bytes)
    found = {name: info.shape for name, info in header.tensors.items()}
    if found != shapes_of(model or _guess(found)):
        raise ContentRefused(
            "weights: expected exactly the tensors of the model that was trained, found other names or shapes"
        )
    step = header.metadata.get("step", "")
    if header.metadata.keys() != {"step"} or not _STEP.fullmatch(step):
        raise ContentRefused(
            "weights: expected a count of steps and nothing else as metadata, found something else"
        )
    if bytes(head[: header.size_bytes]) != header_of(found, step):
        raise ContentRefused(
            "weights: expected the header byte for byte as training writes it, found another: train again"
        )
    return header


def shapes_of(model: ModelConfig) -> Shapes:
    """Return the shape of each tensor of a model by name."""
    return {slot.name: slot.shape for slot in layout_of(model).slots}


def header_of(shapes: Shapes, step: str) -> bytes:
    """Return the header, prefix included, that training writes after `step` steps; no tensor is allocated."""
    return encode_header(
        {name: np.broadcast_to(_ZERO, shape) for name, shape in shapes.items()}, {"step": step}
    )


def _guess(found: Shapes) -> ModelConfig:
    """Return the model that tensors would be of, were they of one; heads leave no trace in shapes."""
    table, positions = found.get("wte.weight", ()), found.get("wpe.weight", ())
    if len(table) != _MATRIX or len(positions) not in (0, _MATRIX):
        raise ContentRefused(
            "weights: expected a table wte.weight of two dimensions, found no decoder of ours"
        )
    vocabulary, width = table
    return ModelConfig(
        layers=sum(name.endswith(".attn.c_attn.weight") for name in found),
        width=width,
        heads=1,
        context=positions[0] if positions else 1,
        vocabulary=vocabulary,
        positions="learned" if positions else "rotary",
        norm="layernorm" if "ln_f.bias" in found else "rmsnorm",
        activation="gelu" if found.get("h.0.mlp.c_fc.weight", ()) == (width, 4 * width) else "swiglu",
        tied_head="lm_head.weight" not in found,
    )
