"""The one table of op names that every backend fills; the type checker holds them to it.

Conventions, the same for all ops:

- The caller owns every array. Results go first, by position; inputs follow by name. So a backend can work
  inside one arena and allocate nothing in a step.
- `x_backward` *writes* gradients of activations and *adds to* gradients of parameters, so that weights
  used twice (a tied head) and gradients gathered over several batches sum by themselves.
- All float arrays of one call share one dtype, or the precision is "bf16": then parameters, their gradients,
  statistics, losses and the residual stream with its gradient stay float32, and every other activation is an
  array of `BFLOAT16`. A product with a bf16 factor rounds both factors to bf16 and sums in float32.
- Tokens and targets are int64, checked by the caller to lie in [0, V).
- Two calls with equal inputs on one machine with one thread count give equal bits.

Shapes: B batch, T time, C width (channels), H heads, D = C/H, F hidden width, V vocabulary, N = B·T rows,
I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kernels.decode import DecoderWeights, Step

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.int64]

# NumPy has no bf16: the upper half of a float32, as a record, which no arithmetic of NumPy takes for numbers.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])


class Backend(Protocol):
    """What a backend offers. The meaning of each op is defined, with its source, in `kernels.reference`."""

    NAME: str
    PRECISIONS: tuple[str, ...]  # of "fp32" and "bf16"
    LANES: int  # into how many parts to cut a batch so that all cores work; 1 where the backend sees to that

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Floats:
        """Allocate an array where this backend computes."""

    def room(self) -> int | None:
        """Bytes free on a device of its own; None for a backend whose arrays lie in the host's memory."""

    def bring(self, name: str, array: Integers) -> Integers:
        """Return tokens or targets where this backend reads them; valid until the next of that name."""

    def repeat(self, key: Hashable, run: Callable[[], None]) -> None:
        """Call `run`, whose ops follow from `key` but for their arrays' contents, or repeat a recording."""

    def widen(self, out: Floats, *, x: Floats) -> None:
        """Write an array of bf16, or of out's own dtype, as out's dtype."""

    def embedding_forward(
        self, out: Floats, *, tokens: Integers, table: Floats, positions: Floats | None
    ) -> None:
        """Rows of the token table, plus rows of the position table where there is one."""

    def embedding_backward(
        self, dtable: Floats, dpositions: Floats | None, *, dout: Floats, tokens: Integers
    ) -> None:
        """Gradients of both tables."""

    def layernorm_forward(
        self, out: Floats, mean: Floats, rstd: Floats, *, x: Floats, weight: Floats, bias: Floats
    ) -> None:
        """Normalise each row, then scale and shift."""

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
        """Gradients of `layernorm_forward`."""

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
        """`layernorm_backward` and `residual_backward` in one: adds to dx."""

    def rmsnorm_forward(self, out: Floats, rstd: Floats, *, x: Floats, weight: Floats) -> None:
        """Divide each row by its root mean square, then scale."""

    def rmsnorm_backward(
        self, dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
    ) -> None:
        """Gradients of `rmsnorm_forward`."""

    def linear_forward(self, out: Floats, *, x: Floats, weight: Floats, bias: Floats | None) -> None:
        """Matrix product and bias."""

    def linear_backward(
        self, dx: Floats, dweight: Floats, dbias: Floats | None, *, dout: Floats, x: Floats, weight: Floats
    ) -> None:
        """Gradients of `linear_forward`."""

    def linear_gelu_forward(
        self, out: Floats, wide: Floats, *, x: Floats, weight: Floats, bias: Floats | None
    ) -> None:
        """`linear_forward` into wide and `gelu_forward` of it into out."""

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
        """`linear_backward` of x = gelu(wide), then `gelu_backward`: dx is the gradient of wide."""

    def linear_residual_forward(
        self, out: Floats, *, x: Floats, weight: Floats, bias: Floats | None, residual: Floats
    ) -> None:
        """`linear_forward` and `residual_forward` in one; out is not residual."""

    def rmsnorm_residual_backward(
        self, dx: Floats, dweight: Floats, *, dout: Floats, x: Floats, weight: Floats, rstd: Floats
    ) -> None:
        """`rmsnorm_backward` and `residual_backward` in one: adds to dx."""

    def rotary_forward(self, qkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
        """Turn queries and keys by their positions, in place."""

    def rotary_backward(self, dqkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
        """Turn their gradients back, in place."""

    def attention_forward(self, out: Floats, lse: Floats, *, qkv: Floats, heads: int) -> None:
        """Causal multi-head attention."""

    def attention_backward(
        self, dqkv: Floats, *, dout: Floats, out: Floats, lse: Floats, qkv: Floats, heads: int
    ) -> None:
        """Gradient of `attention_forward`."""

    def gelu_forward(self, out: Floats, *, x: Floats) -> None:
        """GELU, tanh form."""

    def gelu_backward(self, dx: Floats, *, dout: Floats, x: Floats) -> None:
        """Gradient of `gelu_forward`."""

    def swiglu_forward(self, out: Floats, *, x: Floats) -> None:
        """SiLU of the first half of each row times the second half."""

    def swiglu_backward(self, dx: Floats, *, dout: Floats, x: Floats) -> None:
        """Gradient of `swiglu_forward`."""

    def dropout_forward(
        self, out: Floats, *, x: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
    ) -> None:
        """Drop elements by a mask that follows from their place, and scale up what is kept."""

    def dropout_backward(
        self, dx: Floats, *, dout: Floats, chance: float, seed: int, step: int, stream: int, first_row: int
    ) -> None:
        """Gradient of `dropout_forward`."""

    def residual_forward(self, out: Floats, *, x: Floats, branch: Floats) -> None:
        """Sum of the stream and a branch."""

    def residual_backward(self, dx: Floats, *, dbranch_input: Floats) -> None:
        """Add the gradient that came through the branch to the one that came past it."""

    def softmax_cross_entropy_forward(
        self, losses: Floats, lse: Floats, *, logits: Floats, targets: Integers
    ) -> None:
        """Negative log likelihood of each target, in nats."""

    def softmax_cross_entropy_backward(
        self, dlogits: Floats, *, logits: Floats, lse: Floats, targets: Integers, scale: float
    ) -> None:
        """Gradient of `scale` times the sum of the losses."""

    def decoder(self, weights: DecoderWeights, keys: Floats, values: Floats) -> Step:
        """Return the function that runs one token through a whole decoder, over caches of zeros (float32)."""

    def global_norm(self, gradients: Floats) -> float:
        """Euclidean length of a flat buffer."""

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
        """One AdamW update in place."""
