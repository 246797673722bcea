"""The op table of the CUDA backend: arguments checked here, arithmetic in kernels compiled beforehand.

Every array is checked (`operands`) before its address is handed out. What an op means is defined in
`kernels.reference`. It computes in bf16 only: its attention has no other form.
"""

from __future__ import annotations

import math

import numpy as np

from kernels.cuda import launches
from kernels.cuda.caller import Caller
from kernels.cuda.device import Device
from kernels.cuda.norms import Norms
from kernels.cuda.operands import INT64, NONE, at, half, held, packed_shape, rows_at
from kernels.cuda.pointwise import Pointwise
from kernels.cuda.products import Products
from kernels.decode import DecoderWeights, Step
from kernels.errors import BackendMissing
from kernels.table import BFLOAT16, Floats, Integers

_WORD, _FLOAT, _DOUBLE = 4, 4, 8


class Attention(Caller):
    """Causal attention and rotary positions."""

    def rotary_forward(self, qkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
        """Turn queries and keys by their positions, in place."""
        self._rotary(qkv, cosines, sines, heads, 1.0)

    def rotary_backward(self, dqkv: Floats, *, cosines: Floats, sines: Floats, heads: int) -> None:
        """Turn their gradients back, in place."""
        self._rotary(dqkv, cosines, sines, heads, -1.0)

    def _rotary(self, qkv: Floats, cosines: Floats, sines: Floats, heads: int, sign: float) -> None:
        B, T, C = packed_shape(qkv, heads)
        planes = C // heads // 2
        self._launch(
            launches.rotary(half=half(qkv), N=B * T, C=C, heads=heads),
            qkv=at(qkv, (B, T, 3 * C), None),
            cosines=rows_at(cosines, T, planes),
            sines=rows_at(sines, T, planes),
            sign=sign,
            N=B * T,
            T=T,
            C=C,
            heads=heads,
        )

    def attention_forward(self, out: Floats, lse: Floats, *, qkv: Floats, heads: int) -> None:
        """Causal attention of qkv (B, T, 3·C) to out (B, T, C), both bf16, and lse (B, H, T) float32."""
        B, T, C = packed_shape(qkv, heads)
        self._launch(
            launches.attention_forward(B=B, T=T, C=C, heads=heads),
            out=at(out, (B, T, C), BFLOAT16),
            lse=at(lse, (B, heads, T)),
            qkv=at(qkv, (B, T, 3 * C), BFLOAT16),
            scale=1.0 / math.sqrt(C // heads),
            T=T,
            C=C,
            heads=heads,
        )

    def attention_backward(
        self, dqkv: Floats, *, dout: Floats, out: Floats, lse: Floats, qkv: Floats, heads: int
    ) -> None:
        """Write dqkv (B, T, 3·C)."""
        B, T, C = packed_shape(qkv, heads)
        shape = {"T": T, "C": C, "heads": heads}
        delta = self._room("attention delta", B * heads * T * _FLOAT)
        first, keys, queries = launches.attention_backward(B=B, T=T, C=C, heads=heads)
        slope = at(dout, (B, T, C), BFLOAT16)
        self._launch(first, delta=delta, dout=slope, out=at(out, (B, T, C), BFLOAT16), rows=B * T, **shape)
        for how in (keys, queries):
            self._launch(
                how,
                dqkv=at(dqkv, (B, T, 3 * C), BFLOAT16),
                dout=slope,
                lse=at(lse, (B, heads, T)),
                delta=delta,
                qkv=at(qkv, (B, T, 3 * C), BFLOAT16),
                scale=1.0 / math.sqrt(C // heads),
                **shape,
            )


class Cuda(Attention, Norms, Pointwise, Products):
    """The op table of `kernels.table.Backend` on one device."""

    LANES = 1
    PRECISIONS: tuple[str, ...] = ("bf16",)

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.NAME = f"cuda/{device.NAME}"  # bits are equal on equal names

    # --- embedding ------------------------------------------------------------------------------------------

    def embedding_forward(
        self, out: Floats, *, tokens: Integers, table: Floats, positions: Floats | None
    ) -> None:
        """Write rows of both tables to out (B, T, C) float32."""
        B, T, C = held(out).shape
        self._launch(
            launches.embedding_forward(N=B * T, C=C),
            out=at(out, (B, T, C)),
            tokens=at(self.bring("tokens", tokens), (B, T), INT64),
            table=at(table, (len(table), C)),
            positions=rows_at(positions, T, C),
            N=B * T,
            T=T,
            C=C,
        )

    def embedding_backward(
        self, dtable: Floats, dpositions: Floats | None, *, dout: Floats, tokens: Integers
    ) -> None:
        """Add to both tables' gradients; a token that occurs often is summed in the order of its places."""
        B, T, C = held(dout).shape
        slope, N = at(dout, (B, T, C)), B * T
        if dpositions is not None:
            to, how = rows_at(dpositions, T, C), launches.embedding_positions(T=T, C=C)
            self._launch(how, dpositions=to, dout=slope, B=B, T=T, C=C)
        there = at(self.bring("tokens", tokens), (B, T), INT64)
        keys, rows = self._sorted(there, N, len(dtable))
        edges = self._room("embedding edges", launches.embedding_parts(N) * 2 * C * _FLOAT)
        chunks, across = launches.embedding_backward(N=N, C=C)
        table = {"dtable": at(dtable, (len(dtable), C)), "edges": edges, "keys": keys, "N": N, "C": C}
        self._launch(chunks, dout=slope, rows=rows, **table)
        self._launch(across, **table)

    def _sorted(self, tokens: int, N: int, V: int) -> tuple[int, int]:
        """Addresses of the tokens in ascending order (N,) uint32, and of their places."""
        length = 256 * launches.sort_blocks(N)
        counts = self._room("sort counts", length * _WORD)
        keys = rows = NONE
        given = tokens
        for number, shift in enumerate(launches.sort_shifts(V)):
            side = "even" if number % 2 == 0 else "odd"
            to_keys = self._room(f"sort keys {side}", N * _WORD)
            to_rows = self._room(f"sort rows {side}", N * _WORD)
            count, scan, scatter = launches.sort_pass(N)
            source = {"tokens": given, "keys": keys, "shift": shift, "N": N}
            self._launch(count, counts=counts, **source)
            self._launch(scan, counts=counts, length=length)
            self._launch(scatter, to_keys=to_keys, to_rows=to_rows, rows=rows, starts=counts, **source)
            keys, rows, given = to_keys, to_rows, NONE
        return keys, rows

    # --- loss and optimizer ---------------------------------------------------------------------------------

    def softmax_cross_entropy_forward(
        self, losses: Floats, lse: Floats, *, logits: Floats, targets: Integers
    ) -> None:
        """Negative log likelihood of each target in nats, float32 (N,)."""
        N, V = held(logits).shape
        self._launch(
            launches.softmax_cross_entropy("forward", half=half(logits), N=N),
            losses=at(losses, (N,)),
            lse=at(lse, (N,)),
            logits=at(logits, (N, V), None),
            targets=at(self.bring("targets", targets), (N,), INT64),
            V=V,
        )

    def softmax_cross_entropy_backward(
        self, dlogits: Floats, *, logits: Floats, lse: Floats, targets: Integers, scale: float
    ) -> None:
        """Write the gradient of scale times the sum of the losses; dlogits may be logits itself."""
        N, V = held(logits).shape
        self._launch(
            launches.softmax_cross_entropy("backward", half=half(logits), N=N),
            dlogits=at(dlogits, (N, V), held(logits).dtype),
            logits=at(logits, (N, V), None),
            lse=at(lse, (N,)),
            targets=at(self.bring("targets", targets), (N,), INT64),
            scale=scale,
            V=V,
        )

    def global_norm(self, gradients: Floats) -> float:
        """√Σg² of a flat buffer, summed in float64."""
        count = held(gradients).size
        parts = launches.square_parts(count)
        partial, result = self._room("square sums", parts * _DOUBLE), self._room("length", _DOUBLE)
        first, second = launches.global_norm(count)
        self._launch(first, partial=partial, x=at(gradients, (count,)), count=count)
        self._launch(second, result=result, partial=partial, parts=parts)
        return float(self._host(result, np.float64))

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
        shape = held(parameters).shape
        rates = (
            learning_rate / (1.0 - beta1 ** (step + 1)),
            1.0 / (1.0 - beta2 ** (step + 1)),
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            epsilon,
            1.0 - learning_rate * weight_decay,
            gradient_scale,
        )
        address = self._room("rates", len(rates) * _FLOAT)
        self.device.write(address, np.array(rates, np.float32).view(np.uint8).data)
        self._launch(
            launches.adamw(stochastic=False, count=shape[0]),
            parameters=at(parameters, shape),
            first=at(first, shape),
            second=at(second, shape),
            copy=NONE,
            gradients=at(gradients, shape),
            rates=address,
            place=NONE,
            count=shape[0],
        )

    def decoder(self, weights: DecoderWeights, keys: Floats, values: Floats) -> Step:
        """Refuse: one token at a time is computed where its weights may lie in clear, by the cpu backend."""
        del weights, keys, values
        raise BackendMissing(
            f"{self.NAME}: expected training or evaluation, found a decoder to run token by token; "
            "sample with the backend 'cpu'"
        )
