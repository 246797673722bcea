"""Every CUDA kernel in one table: its source file and its arguments.

`KERNELS` names the arguments in order, with one letter for the type: p pointer, i int32, u uint32, l int64,
w uint64, f float32. Every kernel is `extern "C" __global__`; a test holds the table to what the compiler sees.
`bind` puts arguments given by name into their order. How a kernel is launched: `kernels.cuda.launches`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kernels.errors import ArrayRefused

# Source, the kernels in it that take the same arguments, and these.
_TABLE = (
    (
        "norm",
        "layernorm_forward_bf16 layernorm_forward_fp32 rmsnorm_forward_bf16 rmsnorm_forward_fp32",
        "out:p mean:p rstd:p sum:p x:p branch:p weight:p bias:p N:i C:i",
    ),
    (
        "norm",
        "layernorm_backward_bf16 layernorm_backward_fp32 rmsnorm_backward_bf16 rmsnorm_backward_fp32",
        "dx:p partial:p dout:p x:p weight:p mean:p rstd:p add:i N:i C:i",
    ),
    ("norm", "column_sums", "first:p second:p partial:p parts:i columns:i split:i"),
    (
        "adamw",
        "adamw_nearest adamw_stochastic",
        "parameters:p first:p second:p copy:p gradients:p rates:p place:p count:l",
    ),
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel: its source `kernels/cuda/<source>.cu` and its arguments, name and type letter."""

    source: str
    arguments: tuple[tuple[str, str], ...]

    @property
    def types(self) -> str:
        """The type letters alone."""
        return "".join(letter for _, letter in self.arguments)


def bind(kernel: str, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return (type letter, value) in the kernel's order; raise `ArrayRefused` for other names than its own."""
    wanted = KERNELS[kernel].arguments
    if values.keys() != {name for name, _ in wanted}:
        raise ArrayRefused(
            f"cuda kernel {kernel}: expected the arguments {', '.join(name for name, _ in wanted)}, "
            f"found {', '.join(values)}"
        )
    return [(letter, values[name]) for name, letter in wanted]


def _pair(text: str) -> tuple[str, str]:
    name, _, letter = text.partition(":")
    return name, letter


KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        name: Kernel(source, tuple(_pair(each) for each in arguments.split()))
        for source, names, arguments in _TABLE
        for name in names.split()
    }
)
