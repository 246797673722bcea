"""Layer norm and RMS norm of the CPU backend; `kernels.reference` says what they mean."""

from __future__ import annotations

from kernels.cpu.caller import Caller
from kernels.cpu.operands import at, half, maybe_at
from kernels.table import Floats


class Norms(Caller):
    """Layer norm and RMS norm: one pair of functions, with and without a mean."""

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        """See `Caller`."""
        super().__init__(threads=threads, isa=isa)
        function = self.engine.function
        self._norm_forward = function("norm_forward", "pippppp" + "nn")
        self._norm_backward = function("norm_backward", "pipppi" + "pppp" + "nn")

    def layernorm_forward(
        self, out: Floats, mean: Floats, rstd: Floats, *, x: Floats, weight: Floats, bias: Floats
    ) -> None:
        """Normalise each row of x (N, C); out may be bf16."""
        self._norm(out, mean, rstd, x, weight, bias)

    def layernorm_backward(
        self,
        dx: Floats,
        dweight: Floats,
        dbias: Floats,
        *,
        dout: Floats,
        x: Floats,
        weight: Floats,
        mean: Floats,
        rstd: Floats,
    ) -> None:
        """Write dx (N, C), add to dweight and dbias (C,)."""
        self._norm_slopes(dx, 0, dweight, dbias, dout, x, weight, mean, rstd)

    def layernorm_residual_backward(
        self,
        dx: Floats,
        dweight: Floats,
        dbias: Floats,
        *,
        dout: Floats,
        x: Floats,
        weight: Floats,
        mean: Floats,
        rstd: Floats,
    ) -> None:
        """`layernorm_backward`, added to dx."""
        self._norm_slopes(dx, 1, dweight, dbias, dout, x, weight, mean, rstd)

    def rmsnorm_forward(self, out: Floats, rstd: Floats, *, x: Floats, weight: Floats) -> None:
        """Divide each row of x (N, C) by its root mean square; out may be bf16."""
        self._norm(out, None, rstd, x, weight, None)

    def rmsnorm_backward(
        self, dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
    ) -> None:
        """Write dx (N, C), add to dweight (C,)."""
        self._norm_slopes(dx, 0, dweight, None, dout, x, weight, None, rstd)

    def rmsnorm_residual_backward(
        self, dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
    ) -> None:
        """`rmsnorm_backward`, added to dx."""
        self._norm_slopes(dx, 1, dweight, None, dout, x, weight, None, rstd)

    def _norm(
        self,
        out: Floats,
        mean: Floats | None,
        rstd: Floats,
        x: Floats,
        weight: Floats,
        bias: Floats | None,
    ) -> None:
        N, C = x.shape
        is_half, out_at = half(out), at(out, (N, C), None)
        stats = maybe_at(mean, (N,)), at(rstd, (N,))
        terms = at(x, (N, C)), at(weight, (C,)), maybe_at(bias, (C,))
        self._run(self._norm_forward, out_at, is_half, *stats, *terms, N, C)

    def _norm_slopes(
        self,
        dx: Floats,
        add: int,
        dweight: Floats,
        dbias: Floats | None,
        dout: Floats,
        x: Floats,
        weight: Floats,
        mean: Floats | None,
        rstd: Floats,
    ) -> None:
        N, C = x.shape
        results = at(dx, (N, C)), add, at(dweight, (C,)), maybe_at(dbias, (C,))
        slopes = at(dout, (N, C), None), half(dout)
        terms = at(x, (N, C)), at(weight, (C,)), maybe_at(mean, (N,)), at(rstd, (N,))
        self._run(self._norm_backward, *results, *slopes, *terms, N, C)
