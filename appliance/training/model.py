"""A GPT decoder with a hand-written backward pass, over any backend of `kernels`.

Pre-norm blocks of causal attention and an MLP, a final norm, and a head (Radford et al. 2019); the config
chooses between learned and rotary positions, layer and RMS norm, GELU and SwiGLU, a tied head or one of its
own, and how much is dropped in training. One `Arena` holds every intermediate array of one batch shape, so a
step allocates nothing of its own.

Shapes: B batch, T time, C width, H heads, D = C/H, V vocabulary, N = B·T rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused
from appliance.training import randomness
from appliance.training.arena import Arena, Block, Moments
from appliance.training.config import ModelConfig
from appliance.training.layout import Buffer, Layout, layout_of
from appliance.training.safetensors import numpy_type
from appliance.training.tensorfile import TensorFile
from kernels import Backend, Floats, Integers

INITIAL_SPREAD = 0.02  # standard deviation of the first weights (Radford et al. 2019, section 2.3)
ROTARY_BASE = 10_000.0  # Su et al. 2021, section 3.2.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch stands in a run: with the seed, all that a dropout mask depends on."""

    seed: int
    step: int
    first_row: int  # N rows of a step are numbered over its micro-batches


class GPT:
    """Parameters and the two passes. Tokens and targets are int64 (B, T) in [0, V), T ≤ context.

    `dtype` is that of the parameters; the precision "bf16" keeps activations in half the room. To
    `recompute`, a block keeps its input alone and is computed again in the backward pass, to the same bits
    (Chen et al. 2016).
    """

    def __init__(
        self,
        config: ModelConfig,
        backend: Backend,
        dtype: npt.DTypeLike = np.float32,
        precision: str = "fp32",
        *,
        recompute: bool = False,
    ) -> None:
        self.config = config
        self.backend = backend
        self.dtype = dtype
        self.precision = precision
        self.recompute = recompute
        self.layout: Layout = layout_of(config)
        self.parameters = Buffer(self.layout, backend, dtype)
        self.cosines, self.sines = _rotations(config, backend, dtype)
        self._head = "wte.weight" if config.tied_head else "lm_head.weight"

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

    def open(self, file: TensorFile) -> None:
        """Open sealed weights straight into the parameters; raise as `load` does, the model then unusable."""
        fill_from(self.parameters.views, file, "weights", self.backend)

    def arena(self, B: int, T: int) -> Arena:
        """Room for batches of B sequences of T tokens."""
        return Arena(
            self.config, B, T, self.backend.zeros, self.dtype, self.precision, recompute=self.recompute
        )

    def forward(self, arena: Arena, tokens: Integers, place: Place | None = None) -> Floats:
        """Return the logits (N, V) of the next token at every position; they live in the arena.

        With a `place`, as in training, elements are dropped; without, none are.
        """
        ops, p = self.backend, self.parameters.views
        shaped = arena.stream[0].reshape(arena.batch, arena.time, self.config.width)
        positions = p.get("wpe.weight")
        ops.embedding_forward(shaped, tokens=tokens, table=p["wte.weight"], positions=positions)
        self._drop(arena.stream[0], arena.stream[0], 0, place)
        for layer in range(self.config.layers):
            self._block_forward(arena, layer, place)
        self._norm("ln_f", arena.final, arena.moments, arena.stream[-1])
        ops.linear_forward(arena.logits, x=arena.final, weight=p[self._head].T, bias=None)
        return arena.logits

    def losses(self, arena: Arena, tokens: Integers, targets: Integers, place: Place | None = None) -> Floats:
        """Return the loss of every position in nats (B, T); it lives in the arena."""
        logits = self.forward(arena, tokens, place)
        self.backend.softmax_cross_entropy_forward(
            arena.losses, arena.lse, logits=logits, targets=targets.reshape(-1)
        )
        return arena.losses.reshape(tokens.shape)

    def forward_backward(
        self,
        arena: Arena,
        gradients: Buffer,
        tokens: Integers,
        targets: Integers,
        *,
        share: float = 1.0,
        place: Place | None = None,
    ) -> float:
        """Return `share` times the mean loss in nats per token, and add its gradient to `gradients`."""
        tokens = self.backend.bring("tokens", tokens)
        targets = self.backend.bring("targets", targets)

        def passes() -> None:
            self.losses(arena, tokens, targets, place)
            self._backward(arena, gradients, tokens, targets, share, place)

        if place is not None and self.config.dropout:
            passes()  # its masks follow from the place, so no step is like another
        else:
            self.backend.repeat((arena, gradients, share), passes)
        return share * float(arena.losses.mean(dtype=np.float64))

    def _backward(
        self,
        arena: Arena,
        gradients: Buffer,
        tokens: Integers,
        targets: Integers,
        share: float,
        place: Place | None,
    ) -> None:
        ops, p, g, dlogits = self.backend, self.parameters.views, gradients.views, arena.logits
        ops.softmax_cross_entropy_backward(
            dlogits,
            logits=arena.logits,
            lse=arena.lse,
            targets=targets.reshape(-1),
            scale=share / tokens.size,
        )
        ops.linear_backward(
            arena.dbranch, g[self._head].T, None, dout=dlogits, x=arena.final, weight=p[self._head].T
        )
        self._norm_back("ln_f", g, arena.dstream, arena.moments, dout=arena.dbranch, x=arena.stream[-1])
        for layer in reversed(range(self.config.layers)):
            self._block_backward(arena, layer, g, place)
        self._drop_back(arena.dstream, arena.dstream, 0, place)
        shaped = arena.dstream.reshape(arena.batch, arena.time, self.config.width)
        ops.embedding_backward(g["wte.weight"], g.get("wpe.weight"), dout=shaped, tokens=tokens)

    def _block_forward(self, arena: Arena, layer: int, place: Place | None) -> None:
        """One block: middle = x + attention(norm(x)); out = middle + mlp(norm(middle))."""
        ops, kept, at = self.backend, arena.blocks[layer], f"h.{layer}."
        x, out = arena.stream[layer], arena.stream[layer + 1]
        self._norm(at + "ln_1", kept.normal_1, kept.moments_1, x)
        self._linear(at + "attn.c_attn", kept.qkv.reshape(len(x), -1), kept.normal_1)
        heads = self.config.heads
        if self.config.positions == "rotary":
            ops.rotary_forward(kept.qkv, cosines=self.cosines, sines=self.sines, heads=heads)
        attended = kept.attended.reshape(arena.batch, arena.time, -1)
        ops.attention_forward(attended, kept.lse, qkv=kept.qkv, heads=heads)
        self._project(at + "attn.c_proj", kept.middle, kept.attended, x, 2 * layer + 1, place)
        self._norm(at + "ln_2", kept.normal_2, kept.moments_2, kept.middle)
        self._widen(at + "mlp.c_fc", kept)
        self._project(at + "mlp.c_proj", out, kept.hidden, kept.middle, 2 * layer + 2, place)

    def _block_backward(self, arena: Arena, layer: int, g: Mapping[str, Floats], place: Place | None) -> None:
        """Turn dstream from the gradient of a block's output into that of its input."""
        if self.recompute and layer + 1 < self.config.layers:
            self._block_forward(arena, layer, place)  # the last is still there
        self._mlp_backward(arena, layer, g, place)
        ops, kept, at = self.backend, arena.blocks[layer], f"h.{layer}."
        B, T, heads = arena.batch, arena.time, self.config.heads
        dout = self._drop_back(arena.ddropped, arena.dstream, 2 * layer + 1, place)
        self._linear_back(at + "attn.c_proj", g, arena.dbranch, dout=dout, x=kept.attended)
        ops.attention_backward(
            arena.dqkv,
            dout=arena.dbranch.reshape(B, T, -1),
            out=kept.attended.reshape(B, T, -1),
            lse=kept.lse,
            qkv=kept.qkv,
            heads=heads,
        )
        if self.config.positions == "rotary":
            ops.rotary_backward(arena.dqkv, cosines=self.cosines, sines=self.sines, heads=heads)
        dqkv = arena.dqkv.reshape(B * T, -1)
        self._linear_back(at + "attn.c_attn", g, arena.dbranch, dout=dqkv, x=kept.normal_1)
        self._norm_back_add(
            at + "ln_1", g, arena.dstream, kept.moments_1, dout=arena.dbranch, x=arena.stream[layer]
        )

    def _mlp_backward(self, arena: Arena, layer: int, g: Mapping[str, Floats], place: Place | None) -> None:
        ops, kept, at = self.backend, arena.blocks[layer], f"h.{layer}."
        dout = self._drop_back(arena.ddropped, arena.dstream, 2 * layer + 2, place)
        if self.config.activation == "gelu":
            ops.gelu_linear_backward(
                arena.dwide,
                g[at + "mlp.c_proj.weight"],
                g[at + "mlp.c_proj.bias"],
                dout=dout,
                x=kept.hidden,
                wide=kept.wide,
                weight=self.parameters.views[at + "mlp.c_proj.weight"],
            )
        else:
            self._linear_back(at + "mlp.c_proj", g, arena.dhidden, dout=dout, x=kept.hidden)
            ops.swiglu_backward(arena.dwide, dout=arena.dhidden, x=kept.wide)
        self._linear_back(at + "mlp.c_fc", g, arena.dbranch, dout=arena.dwide, x=kept.normal_2)
        self._norm_back_add(at + "ln_2", g, arena.dstream, kept.moments_2, dout=arena.dbranch, x=kept.middle)

    def _norm(self, name: str, out: Floats, moments: Moments, x: Floats) -> None:
        p, weight = self.parameters.views, self.parameters.views[name + ".weight"]
        if self.config.norm == "layernorm":
            self.backend.layernorm_forward(
                out, moments.mean, moments.rstd, x=x, weight=weight, bias=p[name + ".bias"]
            )
        else:
            self.backend.rmsnorm_forward(out, moments.rstd, x=x, weight=weight)

    def _norm_back(
        self, name: str, g: Mapping[str, Floats], dx: Floats, moments: Moments, *, dout: Floats, x: Floats
    ) -> None:
        weight, dweight = self.parameters.views[name + ".weight"], g[name + ".weight"]
        if self.config.norm == "layernorm":
            self.backend.layernorm_backward(
                dx,
                dweight,
                g[name + ".bias"],
                dout=dout,
                x=x,
                weight=weight,
                mean=moments.mean,
                rstd=moments.rstd,
            )
        else:
            self.backend.rmsnorm_backward(dx, dweight, dout=dout, x=x, weight=weight, rstd=moments.rstd)

    def _norm_back_add(
        self, name: str, g: Mapping[str, Floats], dx: Floats, moments: Moments, *, dout: Floats, x: Floats
    ) -> None:
        """`_norm_back`, added to dx: the gradient of the stream that the norm read."""
        weight, dweight = self.parameters.views[name + ".weight"], g[name + ".weight"]
        if self.config.norm == "layernorm":
            self.backend.layernorm_residual_backward(
                dx,
                dweight,
                g[name + ".bias"],
                dout=dout,
                x=x,
                weight=weight,
                mean=moments.mean,
                rstd=moments.rstd,
            )
        else:
            self.backend.rmsnorm_residual_backward(
                dx, dweight, dout=dout, x=x, weight=weight, rstd=moments.rstd
            )

    def _widen(self, name: str, kept: Block) -> None:
        """Write the first half of the MLP: wide, and hidden from it."""
        if self.config.activation == "gelu":
            weight, bias = self.parameters.views[name + ".weight"], self.parameters.views[name + ".bias"]
            self.backend.linear_gelu_forward(
                kept.hidden, kept.wide, x=kept.normal_2, weight=weight, bias=bias
            )
        else:
            self._linear(name, kept.wide, kept.normal_2)
            self.backend.swiglu_forward(kept.hidden, x=kept.wide)

    def _project(
        self, name: str, out: Floats, x: Floats, residual: Floats, stream: int, place: Place | None
    ) -> None:
        """End a branch: out = residual + what dropout leaves of x · weight + bias."""
        if place is not None and self.config.dropout:
            self._linear(name, out, x)
            self._drop(out, out, stream, place)
            self.backend.residual_forward(out, x=residual, branch=out)
            return
        weight, bias = self.parameters.views[name + ".weight"], self.parameters.views[name + ".bias"]
        self.backend.linear_residual_forward(out, x=x, weight=weight, bias=bias, residual=residual)

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

    def _drop(self, out: Floats, x: Floats, stream: int, place: Place | None) -> None:
        if place is not None and self.config.dropout:
            self.backend.dropout_forward(
                out,
                x=x,
                chance=self.config.dropout,
                seed=place.seed,
                step=place.step,
                stream=stream,
                first_row=place.first_row,
            )

    def _drop_back(self, dx: Floats, dout: Floats, stream: int, place: Place | None) -> Floats:
        """Return the gradient before the dropout: dx, or dout itself where nothing was dropped."""
        if place is None or not self.config.dropout:
            return dout
        self.backend.dropout_backward(
            dx,
            dout=dout,
            chance=self.config.dropout,
            seed=place.seed,
            step=place.step,
            stream=stream,
            first_row=place.first_row,
        )
        return dx


def _rotations(config: ModelConfig, backend: Backend, dtype: npt.DTypeLike) -> tuple[Floats, Floats]:
    """Cosines and sines of t · base^(-2j/D) (context, D/2), computed in float64; empty for learned ones."""
    half = config.width // config.heads // 2 if config.positions == "rotary" else 0
    rates = ROTARY_BASE ** (-np.arange(half) / max(1, half))
    angles = np.arange(config.context)[:, None] * rates
    cosines, sines = backend.zeros(angles.shape, dtype), backend.zeros(angles.shape, dtype)
    cosines[...], sines[...] = np.cos(angles), np.sin(angles)
    return cosines, sines


def fill(buffer: Buffer, tensors: Mapping[str, npt.NDArray[np.generic]], what: str) -> None:
    """Copy `tensors` in; raise `ContentRefused` on another name, shape or dtype, or a non-finite value."""
    _refuse_other_names(buffer.views, tensors.keys(), what)
    for name, view in buffer.views.items():
        found = tensors[name]
        _refuse_other_shape(name, view, found.shape, found.dtype, what)
        _refuse_not_finite(name, found, what)
        view[...] = found


def fill_from(views: Mapping[str, Floats], file: TensorFile, what: str, backend: Backend) -> None:
    """Open a file's tensors into `views` without a copy, in the file's order; raises as `fill` does.

    Whether they are finite is asked where they lie: a tensor on a device is not read back.
    """
    _refuse_other_names(views, file.header.tensors.keys(), what)
    for name, info in file.header.tensors.items():
        view = views[name]
        _refuse_other_shape(name, view, info.shape, numpy_type(name, info), what)
        file.open_into(name, view)
        if not math.isfinite(backend.global_norm(view.reshape(-1))):
            raise _not_finite(name, what)


def _refuse_other_names(views: Mapping[str, Floats], found: AbstractSet[str], what: str) -> None:
    for name in sorted(views.keys() ^ found):
        state = "is missing" if name in views else "is unknown"
        raise ContentRefused(f"{what}: tensor {name[:80]!r} {state}; expected those of the configured model")


def _refuse_other_shape(
    name: str, view: Floats, shape: tuple[int, ...], dtype: np.dtype[np.generic], what: str
) -> None:
    if shape != view.shape or dtype != view.dtype:
        raise ContentRefused(
            f"{what}: tensor {name!r}: expected {view.dtype} {view.shape}, found {dtype} {shape}"
        )


def _refuse_not_finite(name: str, values: npt.NDArray[np.generic], what: str) -> None:
    if not np.isfinite(values).all():
        raise _not_finite(name, what)


def _not_finite(name: str, what: str) -> ContentRefused:
    return ContentRefused(f"{what}: tensor {name!r}: expected finite numbers, found NaN or infinity")
