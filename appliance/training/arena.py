"""Room for one batch shape: every intermediate array of the two passes, so that a step allocates nothing.

Shapes: B batch, T time, C width, H heads, F hidden width, V vocabulary, N = B·T rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy.typing as npt

from appliance.training.config import ModelConfig
from appliance.training.layout import hidden_width, projected_width
from kernels import BFLOAT16, Floats

Allocate = Callable[[tuple[int, ...], npt.DTypeLike], Floats]


@dataclass(frozen=True, slots=True)
class Moments:
    """What a norm keeps of its rows (N,) for its backward; an RMS norm has no use for the mean."""

    mean: Floats
    rstd: Floats


@dataclass(frozen=True, slots=True)
class Block:
    """What one block keeps of the forward pass: its norms, attention, and both sides of the activation."""

    normal_1: Floats
    moments_1: Moments
    qkv: Floats
    lse: Floats
    attended: Floats
    middle: Floats
    normal_2: Floats
    moments_2: Moments
    wide: Floats
    hidden: Floats


class Arena:
    """Every activation and activation gradient of one batch shape (B, T)."""

    def __init__(
        self,
        config: ModelConfig,
        B: int,
        T: int,
        allocate: Allocate,
        dtype: npt.DTypeLike,
        precision: str = "fp32",
        *,
        recompute: bool = False,
    ) -> None:
        """Take every array from `allocate`, which is a backend's `zeros`, or only counts.

        With the precision "bf16", all are `BFLOAT16` but the stream, its gradient, statistics and losses. To
        `recompute`, all blocks share one: what it holds is that of the block computed last.
        """

        def room(*shape: int) -> Floats:
            return allocate(shape, dtype)

        def brief(*shape: int) -> Floats:
            return allocate(shape, BFLOAT16 if precision == "bf16" else dtype)

        N, C, V = B * T, config.width, config.vocabulary
        hidden, projected = hidden_width(config), projected_width(config)
        self.batch, self.time = B, T

        def block() -> Block:
            return Block(
                normal_1=brief(N, C),
                moments_1=Moments(room(N), room(N)),
                qkv=brief(B, T, 3 * C),
                lse=room(B, config.heads, T),
                attended=brief(N, C),
                middle=room(N, C),
                normal_2=brief(N, C),
                moments_2=Moments(room(N), room(N)),
                wide=brief(N, projected),
                hidden=brief(N, hidden),
            )

        made = [block() for _ in range(1 if recompute else config.layers)]
        self.blocks = made * (config.layers if recompute else 1)
        self.stream = [room(N, C) for _ in range(config.layers + 1)]
        self.final, self.dbranch = brief(N, C), brief(N, C)
        self.dstream = room(N, C)
        self.ddropped = room(N, C) if config.dropout else self.dstream
        self.moments = Moments(room(N), room(N))
        self.lse, self.losses = room(N), room(N)
        self.dhidden = brief(N, hidden)
        self.dwide = self.dhidden if projected == hidden else brief(N, projected)
        self.dqkv = brief(B, T, 3 * C)
        self.logits = brief(N, V)
