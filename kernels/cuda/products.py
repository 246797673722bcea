"""The matrix products of the CUDA backend, by the vendor's library, and what belongs to them.

Both factors are bf16, sums are float32. What an op means is defined in `kernels.reference`.
"""

from __future__ import annotations

from kernels.cuda import launches
from kernels.cuda.caller import Caller
from kernels.cuda.device import Product
from kernels.cuda.operands import NONE, at, half, held, matrix_at, maybe_at
from kernels.errors import ArrayRefused
from kernels.table import Floats


class Products(Caller):
    """Linear layers, forward and backward."""

    def linear_forward(self, out: Floats, *, x: Floats, weight: Floats, bias: Floats | None) -> None:
        """Write x (N, I) · weight (I, O) + bias (O,) to out (N, O)."""
        self._product(out, x, weight)
        N, O = held(out).shape  # noqa: E741  the table's letter for outputs
        if bias is not None:
            how = launches.bias_forward(half=half(out), count=N * O)
            self._launch(how, out=at(out, (N, O), None), bias=at(bias, (O,)), count=N * O, O=O)

    def linear_gelu_forward(
        self, out: Floats, wide: Floats, *, x: Floats, weight: Floats, bias: Floats | None
    ) -> None:
        """Write x · weight + bias to wide and its GELU to out (N, O), both of one dtype."""
        self._product(wide, x, weight)
        N, O = held(wide).shape  # noqa: E741  the table's letter for outputs
        there = at(wide, (N, O), None)
        self._launch(
            launches.gelu_forward(half=half(wide), count=N * O),
            out=at(out, (N, O), held(wide).dtype),
            wide=there if bias is not None else NONE,
            x=there,
            bias=maybe_at(bias, (O,)),
            count=N * O,
            F=O,
        )

    def linear_residual_forward(
        self, out: Floats, *, x: Floats, weight: Floats, bias: Floats | None, residual: Floats
    ) -> None:
        """Write residual + x · weight + bias to out (N, O) float32, which is not residual."""
        self._product(out, x, weight)
        N, O = held(out).shape  # noqa: E741  the table's letter for outputs
        there = at(out, (N, O))
        self._launch(
            launches.residual(half=False, count=N * O),
            out=there,
            x=at(residual, (N, O)),
            branch=there,
            bias=maybe_at(bias, (O,)),
            count=N * O,
            C=O,
        )

    def linear_backward(
        self,
        dx: Floats,
        dweight: Floats,
        dbias: Floats | None,
        *,
        dout: Floats,
        x: Floats,
        weight: Floats,
    ) -> None:
        """Write dx (N, I), add to dweight (I, O) and dbias (O,)."""
        N, I = held(x).shape  # noqa: E741  the table's letter for inputs
        O = held(dout).shape[1]  # noqa: E741  and for outputs
        at(dout, (N, O), None), at(x, (N, I), None)
        if dbias is not None:
            self._bias_backward(dbias, dout, N, O)
        slope, lies = matrix_at(dweight, (I, O))
        _, turned = matrix_at(weight, (I, O))
        if lies != turned:
            raise ArrayRefused("cuda backend: expected a weight and its gradient to lie the same way")
        y, z = self._narrowed(dout, "narrow gradient"), self._narrowed(x, "narrow input")
        if turned:
            self._multiply(
                Product(slope, y, z, M=O, N=I, K=N, half=True, out_half=False, x_turned=True, add=True)
            )
        else:
            self._multiply(
                Product(slope, z, y, M=I, N=O, K=N, half=True, out_half=False, x_turned=True, add=True)
            )
        matrix = self._narrowed(weight, "narrow weight")
        to = at(dx, (N, I), None)
        self._multiply(
            Product(to, y, matrix, M=N, N=I, K=O, half=True, out_half=half(dx), y_turned=not turned)
        )

    def gelu_linear_backward(
        self,
        dx: Floats,
        dweight: Floats,
        dbias: Floats | None,
        *,
        dout: Floats,
        x: Floats,
        wide: Floats,
        weight: Floats,
    ) -> None:
        """`linear_backward` of x = gelu(wide), with dx the gradient of wide (N, I), both of one dtype."""
        self.linear_backward(dx, dweight, dbias, dout=dout, x=x, weight=weight)
        shape, count = held(wide).shape, held(wide).size
        there = at(dx, shape, held(wide).dtype)
        how = launches.gelu_backward(half=half(wide), count=count)
        self._launch(how, dx=there, dout=there, x=at(wide, shape, None), count=count)

    def _product(self, out: Floats, x: Floats, weight: Floats) -> None:
        N, I = held(x).shape  # noqa: E741  the table's letter for inputs
        O = held(out).shape[1]  # noqa: E741  and for outputs
        to = at(out, (N, O), None)
        at(x, (N, I), None)
        _, turned = matrix_at(weight, (I, O))
        y, z = self._narrowed(x, "narrow input"), self._narrowed(weight, "narrow weight")
        self._multiply(Product(to, y, z, M=N, N=O, K=I, half=True, out_half=half(out), y_turned=turned))

    def _bias_backward(self, dbias: Floats, dout: Floats, N: int, O: int) -> None:  # noqa: E741  outputs
        parts = launches.bias_parts(N)
        partial = self._partial(parts, O)
        how = launches.bias_backward(half=half(dout), N=N, O=O)
        self._launch(how, partial=partial, dout=held(dout).address, N=N, O=O)
        self._column_sums(at(dbias, (O,)), NONE, partial, parts, O, O)
