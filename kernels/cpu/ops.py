"""The op table of the CPU backend: arguments checked here, arithmetic in the library.

Every array is checked (`operands`) before its address is handed out. What an op means is defined in
`kernels.reference`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Hashable

import numpy as np
import numpy.typing as npt

from kernels.cpu.attention import Attention
from kernels.cpu.decoding import Decoding
from kernels.cpu.norms import Norms
from kernels.cpu.operands import INT64, at, half, like_at, maybe_at, rows_at, weight_at
from kernels.cpu.pointwise import Pointwise
from kernels.errors import ArrayRefused
from kernels.table import Floats, Integers


class Cpu(Attention, Decoding, Norms, Pointwise):
    """The op table of `kernels.table.Backend` for one instruction set and number of threads."""

    LANES = 1  # threads share the work inside each op
    PRECISIONS: tuple[str, ...] = ("fp32", "bf16")

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        """Take all cores and the best instruction set, unless told; see `Caller` for what is refused."""
        super().__init__(threads=threads, isa=isa)
        self.NAME = f"cpu/{self.engine.isa}"  # bits are equal on equal names, whatever the number of threads
        function = self.engine.function
        self._embedding_forward = function("embedding_forward", "ppppnnn")
        self._embedding_backward = function("embedding_backward", "ppppnnn")
        self._linear_forward = function("linear_forward", "pipp" + "pipip" + "nnn")
        self._linear_backward = function("linear_backward", "pippp" + "ipipip" + "nnn")
        self._cross_entropy_forward = function("cross_entropy_forward", "pppipnn")
        self._cross_entropy_backward = function("cross_entropy_backward", "ppippfnn")
        self._global_norm = function("global_norm", "ppn")
        self._adamw = function("adamw", "pppp" + "ddddddd" + "n")

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Floats:
        """Allocate a zeroed array in host memory; `dtype` may be `BFLOAT16`."""
        return np.zeros(shape, dtype)

    def room(self) -> int | None:
        """Return None: arrays lie in the host's memory."""
        return None

    def bring(self, name: str, array: Integers) -> Integers:
        """Return the array: it lies where it is read."""
        del name
        return array

    def repeat(self, key: Hashable, run: Callable[[], None]) -> None:
        """Run the ops."""
        del key
        run()

    # --- embedding ------------------------------------------------------------------------------------------

    def embedding_forward(
        self, out: Floats, *, tokens: Integers, table: Floats, positions: Floats | None
    ) -> None:
        """Write rows of both tables to out (B, T, C)."""
        B, T, C = out.shape
        self._run(
            self._embedding_forward,
            at(out, (B, T, C)),
            at(tokens, (B, T), INT64),
            at(table, (len(table), C)),
            rows_at(positions, T, C),
            *(B, T, C),
        )

    def embedding_backward(
        self, dtable: Floats, dpositions: Floats | None, *, dout: Floats, tokens: Integers
    ) -> None:
        """Add to both tables' gradients; a token that occurs often is summed in the order of its places."""
        B, T, C = dout.shape
        self._run(
            self._embedding_backward,
            at(dtable, (len(dtable), C)),
            rows_at(dpositions, T, C),
            at(dout, (B, T, C)),
            at(tokens, (B, T), INT64),
            *(B, T, C),
        )

    # --- linear ---------------------------------------------------------------------------------------------

    def linear_forward(self, out: Floats, *, x: Floats, weight: Floats, bias: Floats | None) -> None:
        """Write x (N, I) · weight (I, O) + bias to out (N, O); in bf16 where x is."""
        self._linear(out, None, None, x, weight, bias)

    def linear_gelu_forward(
        self, out: Floats, wide: Floats, *, x: Floats, weight: Floats, bias: Floats | None
    ) -> None:
        """Write x · weight + bias to wide and its GELU to out (N, O), both of one dtype."""
        self._linear(wide, out, None, x, weight, bias)

    def linear_residual_forward(
        self, out: Floats, *, x: Floats, weight: Floats, bias: Floats | None, residual: Floats
    ) -> None:
        """Write residual + x · weight + bias to out (N, O); out may be residual itself."""
        self._linear(out, None, residual, x, weight, bias)

    def _linear(
        self,
        out: Floats,
        activated: Floats | None,
        residual: Floats | None,
        x: Floats,
        weight: Floats,
        bias: Floats | None,
    ) -> None:
        N, I = x.shape  # noqa: E741  the table's letter for inputs
        O = out.shape[1]  # noqa: E741  and for outputs
        is_half = half(out)
        results = at(out, (N, O), None), is_half, like_at(activated, out), maybe_at(residual, (N, O))
        terms = at(x, (N, I), None), half(x), *weight_at(weight, (I, O)), maybe_at(bias, (O,))
        self._run(self._linear_forward, *results, *terms, N, I, O)

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
        """Write dx (N, I), add to dweight (I, O) and dbias (O,); in bf16 where x or dout is."""
        self._linear_slopes(dx, dweight, dbias, dout, x, weight, None)

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
        self._linear_slopes(dx, dweight, dbias, dout, x, weight, wide)

    def _linear_slopes(
        self,
        dx: Floats,
        dweight: Floats,
        dbias: Floats | None,
        dout: Floats,
        x: Floats,
        weight: Floats,
        wide: Floats | None,
    ) -> None:
        N, I = x.shape  # noqa: E741  the table's letter for inputs
        O = dout.shape[1]  # noqa: E741  and for outputs
        slope, lies = weight_at(dweight, (I, O))
        matrix, turned = weight_at(weight, (I, O))
        if lies != turned:
            raise ArrayRefused(
                "cpu backend: expected a weight and its gradient to lie the same way, found one transposed"
            )
        results = at(dx, (N, I), None), half(dx), slope, maybe_at(dbias, (O,))
        terms = at(dout, (N, O), None), half(dout), at(x, (N, I), None), half(x)
        self._run(self._linear_backward, *results, *terms, matrix, turned, like_at(wide, dx), N, I, O)

    # --- loss and optimizer ---------------------------------------------------------------------------------

    def softmax_cross_entropy_forward(
        self, losses: Floats, lse: Floats, *, logits: Floats, targets: Integers
    ) -> None:
        """Negative log likelihood of each target in nats, float32 (N,); logits (N, V) may be bf16."""
        N, V = logits.shape
        results = at(losses, (N,)), at(lse, (N,))
        terms = at(logits, (N, V), None), half(logits), at(targets, (N,), INT64)
        self._run(self._cross_entropy_forward, *results, *terms, N, V)

    def softmax_cross_entropy_backward(
        self, dlogits: Floats, *, logits: Floats, lse: Floats, targets: Integers, scale: float
    ) -> None:
        """Write the gradient of scale times the sum of the losses; dlogits may be logits itself."""
        N, V = logits.shape
        arrays = at(dlogits, (N, V), logits.dtype), at(logits, (N, V), None), half(logits)
        terms = at(lse, (N,)), at(targets, (N,), INT64)
        self._run(self._cross_entropy_backward, *arrays, *terms, scale, N, V)

    def global_norm(self, gradients: Floats) -> float:
        """√Σg² of a flat buffer, summed in float64."""
        result = ctypes.c_double(math.nan)
        self._run(self._global_norm, ctypes.addressof(result), at(gradients, gradients.shape), gradients.size)
        return result.value

    def adamw_step(
        self,
        parameters: Floats,
        first: Floats,
        second: Floats,
        *,
        gradients: Floats,
        step: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
        gradient_scale: float,
    ) -> None:
        """One AdamW update of flat float32 buffers, in place."""
        shape = parameters.shape
        arrays = at(parameters, shape), at(first, shape), at(second, shape), at(gradients, shape)
        rate = learning_rate / (1.0 - beta1 ** (step + 1))
        spread = 1.0 / (1.0 - beta2 ** (step + 1))
        keep = 1.0 - learning_rate * weight_decay
        self._run(
            self._adamw, *arrays, rate, spread, beta1, beta2, epsilon, keep, gradient_scale, parameters.size
        )
