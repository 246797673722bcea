"""Where an array lies changes no bit: what is not aligned for vector access is taken one by one."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda import launches
from tests.kernels.cpu.test_ops import Draw
from tests.kernels.cuda.launching import arrays_of

N, C = 5, 40
DRAW, FLOATS = Draw("bf16"), Draw("fp32")
STATISTICS = {name: np.abs(FLOATS.stream(N)) for name in ("mean", "rstd")}
PLACE = np.array([1, 2, 3, 4], np.uint32)
TOKENS, TARGETS = np.array([3, 0, 3, 1, 2]), np.array([0, 39, 7, 8, 20])


def room(*shape):
    return np.zeros(shape, np.float32)


CASES = {
    "layernorm_forward": (
        launches.norm_forward(centred=True, half=True, N=N, C=C),
        {"out": DRAW.empty(N, C), "mean": room(N), "rstd": room(N), "sum": room(N, C), "N": N, "C": C}
        | {"x": FLOATS.stream(N, C), "branch": DRAW.activation(N, C)}
        | {"weight": FLOATS.stream(C), "bias": FLOATS.stream(C)},
    ),
    "rmsnorm_backward": (
        launches.norm_backward(centred=False, half=True, N=N, C=C),
        {"dx": FLOATS.stream(N, C), "partial": room(1, C), "dout": DRAW.activation(N, C), **STATISTICS}
        | {"x": FLOATS.stream(N, C), "weight": FLOATS.stream(C), "add": 1, "N": N, "C": C},
    ),
    "gelu_forward": (
        launches.gelu_forward(half=True, count=N * C),
        {"out": DRAW.empty(N, C), "wide": DRAW.empty(N, C), "x": DRAW.activation(N, C)}
        | {"bias": FLOATS.stream(C), "count": N * C, "F": C},
    ),
    "swiglu_backward": (
        launches.swiglu_backward(half=True, N=N, F=C),
        {"dx": DRAW.empty(N, 2 * C), "dout": DRAW.activation(N, C), "x": DRAW.activation(N, 2 * C)}
        | {"N": N, "F": C},
    ),
    "dropout": (
        launches.dropout(half=True, N=N, C=C),
        {"out": DRAW.empty(N, C), "x": DRAW.activation(N, C), "place": PLACE, "stream": 1, "below": 2**31}
        | {"scale": 2.0, "N": N, "C": C},
    ),
    "residual": (
        launches.residual(half=True, count=N * C),
        {"out": room(N, C), "x": FLOATS.stream(N, C), "branch": DRAW.activation(N, C)}
        | {"bias": FLOATS.stream(C), "count": N * C, "C": C},
    ),
    "cast": (
        launches.cast(to_half=True, count=N * C),
        {"out": DRAW.empty(N, C), "x": FLOATS.stream(N, C), "count": N * C},
    ),
    "rotary": (
        launches.rotary(half=True, N=N, C=C, heads=5),
        {"qkv": DRAW.activation(N, 3 * C), "cosines": FLOATS.stream(N, 4), "sines": FLOATS.stream(N, 4)}
        | {"sign": 1.0, "N": N, "T": N, "C": C, "heads": 5},
    ),
    "softmax_cross_entropy": (
        launches.softmax_cross_entropy("both", half=True, N=N),
        {"losses": room(N), "lse": room(N), "logits": DRAW.activation(N, C), "targets": TARGETS}
        | {"scale": 0.5, "V": C},
    ),
    "embedding_forward": (
        launches.embedding_forward(N=N, C=C),
        {"out": room(N, C), "tokens": TOKENS, "table": FLOATS.stream(4, C), "positions": FLOATS.stream(N, C)}
        | {"N": N, "T": N, "C": C},
    ),
    "square_sums": (
        launches.global_norm(N * C)[0],
        {"partial": np.zeros(1), "x": FLOATS.stream(N, C), "count": N * C},
    ),
    "adamw": (
        launches.adamw(stochastic=True, count=N * C),
        {
            "parameters": FLOATS.stream(N, C),
            "first": FLOATS.stream(N, C),
            "second": np.abs(FLOATS.stream(N, C)),
        }
        | {"copy": DRAW.empty(N, C), "gradients": FLOATS.stream(N, C), "place": PLACE, "count": N * C}
        | {"rates": np.full(9, 0.5, np.float32)},
    ),
}


def moved(array):
    """The same elements, one element further on in memory than an allocation begins."""
    buffer = np.zeros(array.size + 1, array.dtype)
    buffer[1:] = array.reshape(-1)
    return buffer[1:].reshape(array.shape)


@pytest.mark.parametrize("case", CASES)
def test_moving_an_array_by_one_element_changes_no_bit(device, case):
    how, given = CASES[case]
    aligned = {name: v.copy() if isinstance(v, np.ndarray) else v for name, v in given.items()}
    device(how, **aligned)
    for name in arrays_of(given):
        again = {key: v.copy() if isinstance(v, np.ndarray) else v for key, v in given.items()}
        again[name] = moved(given[name])
        device(how, **again)
        for key, array in arrays_of(aligned).items():
            assert again[key].tobytes() == array.tobytes(), f"{name} moved, {key} differs"
