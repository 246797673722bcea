"""A GPT decoder with a hand-written backward pass, over any backend of `kernels`.

Learned token and position embeddings, pre-norm blocks of causal attention and a GELU MLP, a final norm, and a
head tied to the token table (Radford et al. 2019). One `Arena` holds every intermediate array of one batch
shape, so a step allocates nothing of its own.

Shapes: B batch, T time, C width, H heads, V vocabulary, N = B·T rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused
from appliance.training import randomness
from appliance.training.config import VOCABULARY, ModelConfig
from appliance.training.layout import Buffer, Layout, layout_of
from kernels import Backend, Floats, Integers

INITIAL_SPREAD = 0.02  # standard deviation of the first weights (Radford et al. 2019, section 2.3)


class _Block:
    """What one block keeps of the forward pass for its backward pass; rows are N, see the module's legend."""

    __slots__ = (
        "attended",
        "hidden",
        "lse",
        "mean_1",
        "mean_2",
        "middle",
        "normal_1",
        "normal_2",
        "qkv",
        "rstd_1",
        "rstd_2",
        "wide",
    )

    def __init__(self, config: ModelConfig, B: int, T: int, backend: Backend, dtype: npt.DTypeLike) -> None:
        N, C = B * T, config.width
        self.normal_1, self.attended, self.middle, self.normal_2 = (
            backend.zeros((N, C), dtype) for _ in range(4)
        )
        self.mean_1, self.rstd_1, self.mean_2, self.rstd_2 = (backend.zeros((N,), dtype) for _ in range(4))
        self.qkv = backend.zeros((B, T, 3 * C), dtype)
        self.lse = backend.zeros((B, config.heads, T), dtype)
        self.wide, self.hidden = (backend.zeros((N, 4 * C), dtype) for _ in range(2))


class Arena:
    """Every activation and activation gradient of one batch shape (B, T)."""

    def __init__(
        self, config: ModelConfig, B: int, T: int, backend: Backend, dtype: npt.DTypeLike = np.float32
    ) -> None:
        N, C = B * T, config.width
        self.batch, self.time = B, T
        self.blocks = [_Block(config, B, T, backend, dtype) for _ in range(config.layers)]
        self.stream = [backend.zeros((N, C), dtype) for _ in range(config.layers + 1)]
        self.final, self.dstream, self.dbranch = (backend.zeros((N, C), dtype) for _ in range(3))
        self.mean, self.rstd, self.lse, self.losses = (backend.zeros((N,), dtype) for _ in range(4))
        self.dwide = backend.zeros((N, 4 * C), dtype)
        self.dqkv = backend.zeros((B, T, 3 * C), dtype)
        self.logits = backend.zeros((N, VOCABULARY), dtype)


class GPT:
    """Parameters and the two passes. Tokens and targets are int64 (B, T) in [0, 256), T ≤ context."""

    def __init__(self, config: ModelConfig, backend: Backend, dtype: npt.DTypeLike = np.float32) -> None:
        self.config = config
        self.backend = backend
        self.dtype = dtype
        self.layout: Layout = layout_of(config)
        self.parameters = Buffer(self.layout, backend, dtype)

    def initialise(self, seed: int) -> None:
        """Draw the first weights: matrices N(0, 0.02²), those that end a branch smaller by √(2·layers)."""
        for index, slot in enumerate(self.layout.slots):
            view = self.parameters.views[slot.name]
            if len(slot.shape) == 2:
                spread = INITIAL_SPREAD
                if slot.name.endswith("c_proj.weight"):
                    spread /= math.sqrt(2 * self.config.layers)
                draws = randomness.normal(seed, randomness.Purpose.INITIAL_WEIGHTS, index, view.size)
                view[...] = (draws * spread).reshape(slot.shape)
            else:
                view[...] = 0.0 if slot.name.endswith(".bias") else 1.0

    def load(self, weights: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Copy weights in; raise `ContentRefused` unless names, shapes and values are this model's."""
        fill(self.parameters, weights, "weights")

    def arena(self, B: int, T: int) -> Arena:
        """Room for batches of B sequences of T tokens."""
        return Arena(self.config, B, T, self.backend, self.dtype)

    def forward(self, arena: Arena, tokens: Integers) -> Floats:
        """Return the logits (N, V) of the next token at every position; they live in the arena."""
        ops, p, config = self.backend, self.parameters.views, self.config
        N, C = tokens.size, config.width
        shaped = arena.stream[0].reshape(arena.batch, arena.time, C)
        ops.embedding_forward(shaped, tokens=tokens, table=p["wte.weight"], positions=p["wpe.weight"])
        for layer, kept in enumerate(arena.blocks):
            self._block_forward(f"h.{layer}.", kept, arena.stream[layer], arena.stream[layer + 1])
        ops.layernorm_forward(
            arena.final,
            arena.mean,
            arena.rstd,
            x=arena.stream[-1],
            weight=p["ln_f.weight"],
            bias=p["ln_f.bias"],
        )
        ops.linear_forward(arena.logits, x=arena.final, weight=p["wte.weight"].T, bias=None)
        return arena.logits.reshape(N, VOCABULARY)

    def losses(self, arena: Arena, tokens: Integers, targets: Integers) -> Floats:
        """Return the loss of every position in nats (B, T); it lives in the arena."""
        logits = self.forward(arena, tokens)
        self.backend.softmax_cross_entropy_forward(
            arena.losses, arena.lse, logits=logits, targets=targets.reshape(-1)
        )
        return arena.losses.reshape(tokens.shape)

    def forward_backward(
        self, arena: Arena, gradients: Buffer, tokens: Integers, targets: Integers, *, share: float = 1.0
    ) -> float:
        """Return `share` times the mean loss in nats per token, and add its gradient to `gradients`."""
        ops, p, g = self.backend, self.parameters.views, gradients.views
        loss = share * float(self.losses(arena, tokens, targets).mean(dtype=np.float64))
        dlogits = arena.logits
        ops.softmax_cross_entropy_backward(
            dlogits,
            logits=arena.logits,
            lse=arena.lse,
            targets=targets.reshape(-1),
            scale=share / tokens.size,
        )
        ops.linear_backward(
            arena.dbranch, g["wte.weight"].T, None, dout=dlogits, x=arena.final, weight=p["wte.weight"].T
        )
        ops.layernorm_backward(
            arena.dstream,
            g["ln_f.weight"],
            g["ln_f.bias"],
            dout=arena.dbranch,
            x=arena.stream[-1],
            weight=p["ln_f.weight"],
            mean=arena.mean,
            rstd=arena.rstd,
        )
        for layer in reversed(range(self.config.layers)):
            self._block_backward(f"h.{layer}.", arena, layer, g)
        shaped = arena.dstream.reshape(arena.batch, arena.time, self.config.width)
        ops.embedding_backward(g["wte.weight"], g["wpe.weight"], dout=shaped, tokens=tokens)
        return loss

    def _block_forward(self, at: str, kept: _Block, x: Floats, out: Floats) -> None:
        """One block: middle = x + attention(norm(x)); out = middle + mlp(norm(middle))."""
        ops, p = self.backend, self.parameters.views
        B, T, _ = kept.qkv.shape
        N, C = x.shape
        ops.layernorm_forward(
            kept.normal_1,
            kept.mean_1,
            kept.rstd_1,
            x=x,
            weight=p[at + "ln_1.weight"],
            bias=p[at + "ln_1.bias"],
        )
        self._linear(at + "attn.c_attn", kept.qkv.reshape(N, 3 * C), kept.normal_1)
        attended = kept.attended.reshape(B, T, C)
        ops.attention_forward(attended, kept.lse, qkv=kept.qkv, heads=self.config.heads)
        self._linear(at + "attn.c_proj", kept.middle, kept.attended)
        ops.residual_forward(kept.middle, x=x, branch=kept.middle)
        ops.layernorm_forward(
            kept.normal_2,
            kept.mean_2,
            kept.rstd_2,
            x=kept.middle,
            weight=p[at + "ln_2.weight"],
            bias=p[at + "ln_2.bias"],
        )
        self._linear(at + "mlp.c_fc", kept.wide, kept.normal_2)
        ops.gelu_forward(kept.hidden, x=kept.wide)
        self._linear(at + "mlp.c_proj", out, kept.hidden)
        ops.residual_forward(out, x=kept.middle, branch=out)

    def _block_backward(self, at: str, arena: Arena, layer: int, g: Mapping[str, Floats]) -> None:
        """Turn dstream from the gradient of a block's output into that of its input."""
        ops, p, kept = self.backend, self.parameters.views, arena.blocks[layer]
        B, T, _ = kept.qkv.shape
        N, C = arena.dstream.shape
        self._linear_back(at + "mlp.c_proj", g, arena.dwide, dout=arena.dstream, x=kept.hidden)
        ops.gelu_backward(arena.dwide, dout=arena.dwide, x=kept.wide)
        self._linear_back(at + "mlp.c_fc", g, arena.dbranch, dout=arena.dwide, x=kept.normal_2)
        ops.layernorm_backward(
            arena.final,  # free by now: the head's backward was its last reader
            g[at + "ln_2.weight"],
            g[at + "ln_2.bias"],
            dout=arena.dbranch,
            x=kept.middle,
            weight=p[at + "ln_2.weight"],
            mean=kept.mean_2,
            rstd=kept.rstd_2,
        )
        ops.residual_backward(arena.dstream, dbranch_input=arena.final)
        self._linear_back(at + "attn.c_proj", g, arena.dbranch, dout=arena.dstream, x=kept.attended)
        ops.attention_backward(
            arena.dqkv,
            dout=arena.dbranch.reshape(B, T, C),
            out=kept.attended.reshape(B, T, C),
            lse=kept.lse,
            qkv=kept.qkv,
            heads=self.config.heads,
        )
        dqkv = arena.dqkv.reshape(N, 3 * C)
        self._linear_back(at + "attn.c_attn", g, arena.dbranch, dout=dqkv, x=kept.normal_1)
        ops.layernorm_backward(
            arena.final,
            g[at + "ln_1.weight"],
            g[at + "ln_1.bias"],
            dout=arena.dbranch,
            x=arena.stream[layer],
            weight=p[at + "ln_1.weight"],
            mean=kept.mean_1,
            rstd=kept.rstd_1,
        )
        ops.residual_backward(arena.dstream, dbranch_input=arena.final)

    def _linear(self, name: str, out: Floats, x: Floats) -> None:
        p = self.parameters.views
        self.backend.linear_forward(out, x=x, weight=p[name + ".weight"], bias=p[name + ".bias"])

    def _linear_back(
        self, name: str, g: Mapping[str, Floats], dx: Floats, *, dout: Floats, x: Floats
    ) -> None:
        self.backend.linear_backward(
            dx,
            g[name + ".weight"],
            g[name + ".bias"],
            dout=dout,
            x=x,
            weight=self.parameters.views[name + ".weight"],
        )


def fill(buffer: Buffer, tensors: Mapping[str, npt.NDArray[np.generic]], what: str) -> None:
    """Copy `tensors` in; raise `ContentRefused` on another name, shape or dtype, or a non-finite value."""
    for name in sorted(buffer.views.keys() ^ tensors.keys()):
        state = "is missing" if name in buffer.views else "is unknown"
        raise ContentRefused(f"{what}: tensor {name[:80]!r} {state}; expected those of the configured model")
    for name, view in buffer.views.items():
        found = tensors[name]
        if found.shape != view.shape or found.dtype != view.dtype:
            raise ContentRefused(
                f"{what}: tensor {name!r}: expected {view.dtype} {view.shape}, "
                f"found {found.dtype} {found.shape}"
            )
        if not np.isfinite(found).all():
            raise ContentRefused(f"{what}: tensor {name!r}: expected finite numbers, found NaN or infinity")
        view[...] = found
