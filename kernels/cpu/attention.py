"""Attention and rotary positions of the CPU backend; `kernels.reference_attention` says what they mean."""

from __future__ import annotations

from kernels.cpu.caller import Caller
from kernels.cpu.operands import at, half, packed_shape, rows_at
from kernels.table import Floats


class Attention(Caller):
    """The ops that let a token see others."""

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        """See `Caller`."""
        super().__init__(threads=threads, isa=isa)
        function = self.engine.function
        self._attention_forward = function("attention_forward", "pppi" + "nnnn")
        self._attention_backward = function("attention_backward", "pppppi" + "nnnn")
        self._rotary = function("rotary", "pippf" + "nnnn")

    def rotary_forward(self, qkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
        """Turn Q and K in qkv (B, T, 3·C) by the angle of their position, in place."""
        self._rotate(qkv, cosines, sines, heads, 1.0)

    def rotary_backward(self, dqkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
        """Turn the gradients of Q and K back, in place."""
        self._rotate(dqkv, cosines, sines, heads, -1.0)

    def _rotate(self, qkv: Floats, cosines: Floats, sines: Floats, heads: int, sign: float) -> None:
        B, T, C = packed_shape(qkv, heads)
        planes = C // heads // 2
        tables = rows_at(cosines, T, planes), rows_at(sines, T, planes)
        self._run(self._rotary, at(qkv, (B, T, 3 * C), None), half(qkv), *tables, sign, B, T, C, heads)

    def attention_forward(self, out: Floats, lse: Floats, *, qkv: Floats, heads: int) -> None:
        """Causal attention of qkv (B, T, 3·C) into out (B, T, C) of the same dtype, lse (B, H, T) float32."""
        B, T, C = packed_shape(qkv, heads)
        is_half = half(qkv)
        arrays = at(out, (B, T, C), qkv.dtype), at(lse, (B, heads, T)), at(qkv, (B, T, 3 * C), None)
        self._run(self._attention_forward, *arrays, is_half, B, T, C, heads)

    def attention_backward(
        self, dqkv: Floats, *, dout: Floats, out: Floats, lse: Floats, qkv: Floats, heads: int
    ) -> None:
        """Write dqkv (B, T, 3·C); all arrays but lse of one dtype."""
        B, T, C = packed_shape(qkv, heads)
        is_half = half(qkv)
        slopes = at(dqkv, (B, T, 3 * C), qkv.dtype), at(dout, (B, T, C), qkv.dtype)
        terms = at(out, (B, T, C), qkv.dtype), at(lse, (B, heads, T)), at(qkv, (B, T, 3 * C), None)
        self._run(self._attention_backward, *slopes, *terms, is_half, B, T, C, heads)
