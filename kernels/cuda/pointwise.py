"""GELU, SwiGLU, dropout, residual sums and widening of the CUDA backend; see `kernels.reference`."""

from __future__ import annotations

import numpy as np

from kernels.cuda import launches
from kernels.cuda.caller import Caller
from kernels.cuda.operands import NONE, at, half, held
from kernels.table import BFLOAT16, Floats

_WORD_BYTES = 4


class Pointwise(Caller):
    """The ops that go through their arrays once."""

    def widen(self, out: Floats, *, x: Floats) -> None:
        """Write the bf16 array x to out as float32."""
        shape, count = held(x).shape, held(x).size
        how = launches.cast(to_half=False, count=count)
        self._launch(how, out=at(out, shape), x=at(x, shape, BFLOAT16), count=count)

    def gelu_forward(self, out: Floats, *, x: Floats) -> None:
        """GELU, tanh form, any shape."""
        shape, count = held(x).shape, held(x).size
        arrays = {"out": at(out, shape, held(x).dtype), "wide": NONE, "x": at(x, shape, None), "bias": NONE}
        self._launch(launches.gelu_forward(half=half(x), count=count), **arrays, count=count, F=shape[-1])

    def gelu_backward(self, dx: Floats, *, dout: Floats, x: Floats) -> None:
        """Gradient of `gelu_forward`; dx may be dout itself."""
        shape, count, dtype = held(x).shape, held(x).size, held(x).dtype
        arrays = {"dx": at(dx, shape, dtype), "dout": at(dout, shape, dtype), "x": at(x, shape, None)}
        self._launch(launches.gelu_backward(half=half(x), count=count), **arrays, count=count)

    def swiglu_forward(self, out: Floats, *, x: Floats) -> None:
        """SiLU of the first half of each row of x (N, 2·F) times the second, to out (N, F)."""
        N, F = held(out).shape
        arrays = {"out": at(out, (N, F), held(x).dtype), "wide": NONE, "x": at(x, (N, 2 * F), None)}
        self._launch(launches.swiglu_forward(half=half(x), N=N, F=F), **arrays, bias=NONE, N=N, F=F)

    def swiglu_backward(self, dx: Floats, *, dout: Floats, x: Floats) -> None:
        """Write dx (N, 2·F) from dout (N, F)."""
        (N, F), dtype = held(dout).shape, held(x).dtype
        arrays = {"dx": at(dx, (N, 2 * F), dtype), "dout": at(dout, (N, F), dtype)}
        how = launches.swiglu_backward(half=half(x), N=N, F=F)
        self._launch(how, **arrays, x=at(x, (N, 2 * F), None), N=N, F=F)

    def dropout_forward(
        self, out: Floats, *, x: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
    ) -> None:
        """Drop elements of x (N, C) by the mask of their place; out may be x."""
        N, C = held(x).shape
        self._launch(
            launches.dropout(half=half(x), N=N, C=C),
            out=at(out, (N, C), held(x).dtype),
            x=at(x, (N, C), None),
            place=self._place(seed, step, first_row),
            stream=stream,
            below=int(chance * 2**32),
            scale=1.0 / (1.0 - chance),
            N=N,
            C=C,
        )

    def dropout_backward(
        self, dx: Floats, *, dout: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
    ) -> None:
        """Gradient of `dropout_forward`; the mask is drawn again."""
        self.dropout_forward(
            dx, x=dout, chance=chance, seed=seed, step=step, stream=stream, first_row=first_row
        )

    def residual_forward(self, out: Floats, *, x: Floats, branch: Floats) -> None:
        """Write x + branch to out, float32; the branch may be bf16."""
        shape, count = held(x).shape, held(x).size
        arrays = {"out": at(out, shape), "x": at(x, shape), "branch": at(branch, shape, None), "bias": NONE}
        self._launch(launches.residual(half=half(branch), count=count), **arrays, count=count, C=shape[-1])

    def residual_backward(self, dx: Floats, *, dbranch_input: Floats) -> None:
        """Add dbranch_input to dx, float32."""
        self.residual_forward(dx, x=dx, branch=dbranch_input)

    def _place(self, seed: int, step: int, first_row: int) -> int:
        """Address of what a mask depends on, where it differs from what lies there written anew."""
        words = (seed & 0xFFFFFFFF, seed >> 32, step, first_row)
        address = self._room("place", len(words) * _WORD_BYTES)
        if self._lies != words:
            self.device.write(address, np.array(words, np.uint32).view(np.uint8).data)
            self._lies = words
        return address

    _lies: tuple[int, int, int, int] = (0, 0, 0, 0)
