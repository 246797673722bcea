"""GELU, SwiGLU, dropout, residual sums and widening of the CPU backend; see `kernels.reference`."""

from __future__ import annotations

from kernels.cpu.caller import Caller
from kernels.cpu.operands import at, half
from kernels.table import BFLOAT16, Floats


class Pointwise(Caller):
    """The ops that go through their arrays once."""

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        """See `Caller`."""
        super().__init__(threads=threads, isa=isa)
        function = self.engine.function
        self._gelu_forward = function("gelu_forward", "ppin")
        self._gelu_backward = function("gelu_backward", "pppin")
        self._swiglu_forward = function("swiglu_forward", "ppinn")
        self._swiglu_backward = function("swiglu_backward", "pppinn")
        self._residual = function("residual", "pppin")
        self._dropout = function("dropout", "ppif" + "uuuu" + "nnn")
        self._widen = function("widen_array", "ppn")

    def widen(self, out: Floats, *, x: Floats) -> None:
        """Write the bf16 array x to out as float32."""
        self._run(self._widen, at(out, x.shape), at(x, x.shape, BFLOAT16), x.size)

    def gelu_forward(self, out: Floats, *, x: Floats) -> None:
        """GELU, tanh form, any shape."""
        self._run(self._gelu_forward, at(out, x.shape, x.dtype), at(x, x.shape, None), half(x), x.size)

    def gelu_backward(self, dx: Floats, *, dout: Floats, x: Floats) -> None:
        """Gradient of `gelu_forward`; dx may be dout itself."""
        arrays = at(dx, x.shape, x.dtype), at(dout, x.shape, x.dtype), at(x, x.shape, None)
        self._run(self._gelu_backward, *arrays, half(x), x.size)

    def swiglu_forward(self, out: Floats, *, x: Floats) -> None:
        """SiLU of the first half of each row of x (N, 2·F) times the second, to out (N, F)."""
        N, F = out.shape
        arrays = at(out, (N, F), x.dtype), at(x, (N, 2 * F), None)
        self._run(self._swiglu_forward, *arrays, half(x), N, F)

    def swiglu_backward(self, dx: Floats, *, dout: Floats, x: Floats) -> None:
        """Write dx (N, 2·F) from dout (N, F)."""
        N, F = dout.shape
        arrays = at(dx, (N, 2 * F), x.dtype), at(dout, (N, F), x.dtype), at(x, (N, 2 * F), None)
        self._run(self._swiglu_backward, *arrays, half(x), N, F)

    def dropout_forward(
        self, out: Floats, *, x: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
    ) -> None:
        """Drop elements of x (N, C) by the mask of their place; out may be x."""
        N, C = x.shape
        arrays = at(out, (N, C), x.dtype), at(x, (N, C), None), half(x)
        scale, below = 1.0 / (1.0 - chance), int(chance * 2**32)
        self._run(self._dropout, *arrays, scale, below, seed, step, stream, first_row, N, C)

    def dropout_backward(
        self, dx: Floats, *, dout: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
    ) -> None:
        """Gradient of `dropout_forward`; the mask is drawn again."""
        self.dropout_forward(
            dx, x=dout, chance=chance, seed=seed, step=step, stream=stream, first_row=first_row
        )

    def residual_forward(self, out: Floats, *, x: Floats, branch: Floats) -> None:
        """Write x + branch to out, float32; the branch may be bf16."""
        arrays = at(out, x.shape), at(x, x.shape), at(branch, x.shape, None)
        self._run(self._residual, *arrays, half(branch), x.size)

    def residual_backward(self, dx: Floats, *, dbranch_input: Floats) -> None:
        """Add dbranch_input to dx, float32."""
        self.residual_forward(dx, x=dx, branch=dbranch_input)
