"""Every CUDA kernel in one table: its source file and its arguments.

`KERNELS` names the arguments in order, with one letter for the type: p pointer, i int32, u uint32, l int64,
w uint64, f float32. Every kernel is `extern "C" __global__`; a test holds this to what the compiler sees.
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
    ("chacha20", "chacha20_one_time_keys", "keys:p key:p first:w last:w count:w"),
    (
        "chacha20",
        "chacha20_open",
        "plain:p sealed:p refused:p key:p first:w last:w begin:w size:w",
    ),
    ("chacha20", "chacha20_seal", "sealed:p plain:p key:p first:w last:w begin:w size:w"),
    ("poly1305", "poly1305_verify", "refused:p sealed:p keys:p count:w size:w"),
    ("poly1305", "poly1305_seal", "sealed:p keys:p count:w size:w"),
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
    ("gelu", "gelu_forward_bf16 gelu_forward_fp32", "out:p wide:p x:p bias:p count:l F:i"),
    ("gelu", "gelu_backward_bf16 gelu_backward_fp32", "dx:p dout:p x:p count:l"),
    ("swiglu", "swiglu_forward_bf16 swiglu_forward_fp32", "out:p wide:p x:p bias:p N:i F:i"),
    ("swiglu", "swiglu_backward_bf16 swiglu_backward_fp32", "dx:p dout:p x:p N:i F:i"),
    ("dropout", "dropout_bf16 dropout_fp32", "out:p x:p place:p stream:u below:u scale:f N:i C:i"),
    ("residual", "residual_bf16 residual_fp32", "out:p x:p branch:p bias:p count:l C:i"),
    ("bias", "bias_forward_bf16 bias_forward_fp32", "out:p bias:p count:l O:i"),
    ("bias", "bias_backward_bf16 bias_backward_fp32", "partial:p dout:p N:i O:i"),
    ("cast", "cast_to_bf16 cast_to_fp32", "out:p x:p count:l"),
    ("rotary", "rotary_bf16 rotary_fp32", "qkv:p cosines:p sines:p sign:f N:i T:i C:i heads:i"),
    (
        "loss",
        "softmax_cross_entropy_forward_bf16 softmax_cross_entropy_forward_fp32",
        "losses:p lse:p logits:p targets:p V:i",
    ),
    (
        "loss",
        "softmax_cross_entropy_backward_bf16 softmax_cross_entropy_backward_fp32",
        "dlogits:p logits:p lse:p targets:p scale:f V:i",
    ),
    (
        "loss",
        "softmax_cross_entropy_both_bf16 softmax_cross_entropy_both_fp32",
        "losses:p lse:p logits:p targets:p scale:f V:i",
    ),
    (
        "attention_forward",
        "attention_forward_32 attention_forward_64 attention_forward_96 attention_forward_128",
        "out:p lse:p qkv:p scale:f T:i C:i heads:i",
    ),
    ("attention_backward", "attention_delta", "delta:p dout:p out:p rows:i T:i C:i heads:i"),
    (
        "attention_backward",
        " ".join(f"attention_backward_keys_{D} attention_backward_queries_{D}" for D in (32, 64, 96, 128)),
        "dqkv:p dout:p lse:p delta:p qkv:p scale:f T:i C:i heads:i",
    ),
    ("length", "square_sums", "partial:p x:p count:l"),
    ("length", "root_of_sums", "result:p partial:p parts:i"),
    ("embedding", "embedding_forward", "out:p tokens:p table:p positions:p N:i T:i C:i"),
    ("embedding", "embedding_positions", "dpositions:p dout:p B:i T:i C:i"),
    ("embedding", "embedding_chunks", "dtable:p edges:p dout:p keys:p rows:p N:i C:i"),
    ("embedding", "embedding_edges", "dtable:p edges:p keys:p N:i C:i"),
    ("sort", "sort_count", "counts:p tokens:p keys:p shift:i N:i"),
    ("sort", "sort_scan", "counts:p length:i"),
    ("sort", "sort_scatter", "to_keys:p to_rows:p tokens:p keys:p rows:p starts:p shift:i N:i"),
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
    """Return (type letter, value) in the kernel's order; raise `ArrayRefused` for other names."""
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
