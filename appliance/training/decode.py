"""A model read token by token, with the keys and values of all tokens so far kept.

Guarantees the logits of the full forward pass on the same window, up to rounding; what a call returns is
valid until the next. A window is at most the context; whoever calls decides what stays in it when it is full,
and then reads it anew.

Shapes: L blocks, H heads, D = C/H, T context, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appliance.errors import UsageError
from appliance.training.model import GPT
from kernels import Floats
from kernels.decode import BlockWeights, DecoderWeights, cache_shapes

_ONE_BY_ONE = 16  # tuning: up to here a full pass over the whole context costs more than single steps


class Decoder:
    """The caches of one text under one model."""

    def __init__(self, model: GPT) -> None:
        self._model = model
        self._context = model.config.context
        weights = decoder_weights(model)
        at_keys, at_values = cache_shapes(weights, self._context)
        self._keys = model.backend.zeros(at_keys, model.dtype)
        self._values = model.backend.zeros(at_values, model.dtype)
        self._logits = model.backend.zeros((model.config.vocabulary,), model.dtype)
        self._step = model.backend.decoder(weights, self._keys, self._values)
        self.length = 0
        """Tokens in the window."""

    @property
    def full(self) -> bool:
        """Whether the window holds a whole context, so that nothing can be added."""
        return self.length == self._context

    def read(self, tokens: Sequence[int]) -> Floats:
        """Begin anew with a window of 1 to T tokens; return the logits (V,) after its last one.

        Raises UsageError for none or too many.
        """
        if not 1 <= len(tokens) <= self._context:
            raise UsageError(f"expected a window of 1 to {self._context} tokens, found {len(tokens)}")
        self.length = 0
        if len(tokens) > _ONE_BY_ONE:
            return self._read_at_once(tokens)
        for token in tokens:
            self.add(token)
        return self._logits

    def add(self, token: int) -> Floats:
        """Add one token to a window that is not full; return the logits (V,) after it."""
        self._step(self._logits, token, self.length)
        self.length += 1
        return self._logits

    def _read_at_once(self, tokens: Sequence[int]) -> Floats:
        """One forward pass over the window; what stands behind it cannot be seen from inside."""
        config, T = self._model.config, self._context
        padded = np.zeros((1, T), dtype=np.int64)
        padded[0, : len(tokens)] = tokens
        arena = self._model.arena(1, T)
        logits = self._model.forward(arena, padded)
        for layer, block in enumerate(arena.blocks):
            _, keys, values = block.qkv.reshape(T, 3, config.heads, -1).transpose(1, 2, 0, 3)
            self._keys[layer] = keys.transpose(0, 2, 1)
            self._values[layer] = values
        self.length = len(tokens)
        self._logits[...] = logits[len(tokens) - 1]
        return self._logits


def decoder_weights(model: GPT) -> DecoderWeights:
    """Put the parameters of a model side by side, as views."""
    p, config = model.parameters.views, model.config

    def block(at: str) -> BlockWeights:
        return BlockWeights(
            norm_1_weight=p[at + "ln_1.weight"],
            norm_1_bias=p.get(at + "ln_1.bias"),
            qkv_weight=p[at + "attn.c_attn.weight"],
            qkv_bias=p[at + "attn.c_attn.bias"],
            out_weight=p[at + "attn.c_proj.weight"],
            out_bias=p[at + "attn.c_proj.bias"],
            norm_2_weight=p[at + "ln_2.weight"],
            norm_2_bias=p.get(at + "ln_2.bias"),
            up_weight=p[at + "mlp.c_fc.weight"],
            up_bias=p[at + "mlp.c_fc.bias"],
            down_weight=p[at + "mlp.c_proj.weight"],
            down_bias=p[at + "mlp.c_proj.bias"],
        )

    return DecoderWeights(
        table=p["wte.weight"],
        positions=p.get("wpe.weight"),
        cosines=model.cosines,
        sines=model.sines,
        blocks=tuple(block(f"h.{layer}.") for layer in range(config.layers)),
        norm_weight=p["ln_f.weight"],
        norm_bias=p.get("ln_f.bias"),
        head=p["wte.weight" if config.tied_head else "lm_head.weight"],
        heads=config.heads,
        swiglu=config.activation == "swiglu",
    )
