"""Decoding of the CPU backend: every address is checked once, so that a step is one call."""

from __future__ import annotations

import numpy as np

from kernels.cpu.caller import Caller
from kernels.cpu.operands import at, maybe_at
from kernels.decode import BlockWeights, DecoderWeights, Step, cache_shapes
from kernels.errors import ArrayRefused
from kernels.table import Floats


class Decoding(Caller):
    """The op that runs a whole decoder for one token."""

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        """See `Caller`."""
        super().__init__(threads=threads, isa=isa)
        self._decode = self.engine.function("decode", "ppp" + "pppppp" + "i" + "nnnnnnnn")

    def decoder(self, weights: DecoderWeights, keys: Floats, values: Floats) -> Step:
        """Return the step of a decoder over caches (L, H, D, T) and (L, H, T, D), which it fills."""
        V, C = weights.table.shape
        T, H, F = keys.shape[-1], weights.heads, len(weights.blocks[0].down_weight)
        if C % H:
            raise ArrayRefused(f"cpu backend: expected a width divisible by {H} heads, found {C}")
        at_keys, at_values = cache_shapes(weights, T)
        at(keys, at_keys)
        at(values, at_values)
        blocks = np.array(
            [
                [*_addresses(block, C, F, weights.swiglu), key.ctypes.data, value.ctypes.data]
                for block, key, value in zip(weights.blocks, keys, values, strict=True)
            ],
            dtype=np.uint64,
        )
        turned = (T, C // H // 2) if weights.positions is None else weights.cosines.shape
        addresses = (
            int(blocks.ctypes.data),
            at(weights.table, (V, C)),
            maybe_at(weights.positions, (T, C)),
            at(weights.cosines, turned),
            at(weights.sines, turned),
            at(weights.norm_weight, (C,)),
            maybe_at(weights.norm_bias, (C,)),
            at(weights.head, (V, C)),
        )
        sizes = (T, len(blocks), H, C, F, V)

        swiglu = int(weights.swiglu)

        def step(logits: Floats, token: int, position: int) -> None:
            if not (0 <= token < V and 0 <= position < T):
                raise ArrayRefused(
                    f"cpu backend: expected a token below {V} at a position below {T}, "
                    f"found {token} at {position}"
                )
            self._run(self._decode, at(logits, (V,)), *addresses, swiglu, token, position, *sizes)

        return _Holding(step, (weights, keys, values, blocks))


class _Holding:
    """A step, and what its addresses point to: both live equally long."""

    __slots__ = ("_held", "_step")

    def __init__(self, step: Step, held: tuple[object, ...]) -> None:
        self._step = step
        self._held = held

    def __call__(self, logits: Floats, token: int, position: int) -> None:
        self._step(logits, token, position)


def _addresses(block: BlockWeights, C: int, F: int, swiglu: bool) -> list[int]:  # noqa: FBT001  a fact of the weights
    """Addresses in the order of the fields, 0 for a bias that is not there."""
    P = 2 * F if swiglu else F
    found = (
        at(block.norm_1_weight, (C,)),
        maybe_at(block.norm_1_bias, (C,)),
        at(block.qkv_weight, (C, 3 * C)),
        at(block.qkv_bias, (3 * C,)),
        at(block.out_weight, (C, C)),
        at(block.out_bias, (C,)),
        at(block.norm_2_weight, (C,)),
        maybe_at(block.norm_2_bias, (C,)),
        at(block.up_weight, (C, P)),
        at(block.up_bias, (P,)),
        at(block.down_weight, (F, C)),
        at(block.down_bias, (C,)),
    )
    return [address or 0 for address in found]
