"""Layer norm and RMS norm of the CUDA backend; see `kernels.reference`."""

from __future__ import annotations

from kernels.cuda import launches
from kernels.cuda.caller import Caller
from kernels.cuda.operands import NONE, at, half, held, maybe_at
from kernels.table import Floats


class Norms(Caller):
    """Each norm, its gradient, and the gradient added to the stream's."""

    def layernorm_forward(
        self, out: Floats, mean: Floats, rstd: Floats, *, x: Floats, weight: Floats, bias: Floats
    ) -> None:
        """Normalise rows of x (N, C), float32."""
        self._forward(out, mean, rstd, x, weight, bias)

    def rmsnorm_forward(self, out: Floats, rstd: Floats, *, x: Floats, weight: Floats) -> None:
        """Divide rows of x (N, C) by their root mean square."""
        self._forward(out, None, rstd, x, weight, None)

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
        """Write dx (N, C) float32, add to dweight and dbias."""
        self._backward(dx, dweight, dbias, dout, x, weight, mean, rstd, add=False)

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
        """Add to dx, dweight and dbias."""
        self._backward(dx, dweight, dbias, dout, x, weight, mean, rstd, add=True)

    def rmsnorm_backward(
        self, dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
    ) -> None:
        """Write dx (N, C) float32, add to dweight."""
        self._backward(dx, dweight, None, dout, x, weight, None, rstd, add=False)

    def rmsnorm_residual_backward(
        self, dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
    ) -> None:
        """Add to dx and dweight."""
        self._backward(dx, dweight, None, dout, x, weight, None, rstd, add=True)

    def _forward(
        self,
        out: Floats,
        mean: Floats | None,
        rstd: Floats,
        x: Floats,
        weight: Floats,
        bias: Floats | None,
    ) -> None:
        N, C = held(x).shape
        self._launch(
            launches.norm_forward(centred=mean is not None, half=half(out), N=N, C=C),
            out=at(out, (N, C), None),
            mean=maybe_at(mean, (N,)),
            rstd=at(rstd, (N,)),
            sum=NONE,
            x=at(x, (N, C)),
            branch=NONE,
            weight=at(weight, (C,)),
            bias=maybe_at(bias, (C,)),
            N=N,
            C=C,
        )

    def _backward(
        self,
        dx: Floats,
        dweight: Floats,
        dbias: Floats | None,
        dout: Floats,
        x: Floats,
        weight: Floats,
        mean: Floats | None,
        rstd: Floats,
        *,
        add: bool,
    ) -> None:
        (N, C), centred = held(x).shape, mean is not None
        how, counts = launches.norm_sums(centred=centred, N=N, C=C)
        partial = self._partial(counts["parts"], counts["columns"])
        self._launch(
            launches.norm_backward(centred=centred, half=half(dout), N=N, C=C),
            dx=at(dx, (N, C)),
            partial=partial,
            dout=at(dout, (N, C), None),
            x=at(x, (N, C)),
            weight=at(weight, (C,)),
            mean=maybe_at(mean, (N,)),
            rstd=at(rstd, (N,)),
            add=int(add),
            N=N,
            C=C,
        )
        slopes = {"first": at(dweight, (C,)), "second": maybe_at(dbias, (C,))}
        self._launch(how, **slopes, partial=partial, **counts)
