"""How each op of the CUDA backend is launched: pure Python, the same for a device and for the shim.

A function per op gives the `Launch`: kernel, grid, block and dynamic shared memory, from the shapes alone, so
that the bits of a result depend on neither the card nor the moment.

Shapes: B batch, T time, C width, H heads, D = C/H, F hidden width, V vocabulary, N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.errors import ArrayRefused

# Bytes of shared memory: what a block has without asking the driver, and what it may ask for on every
# architecture that is built (99 KiB on sm_86, 89 and 120; more on the others).
FREE_SHARED = 48 * 1024
SHARED_LIMIT = 99 * 1024


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch. More shared memory than `FREE_SHARED` must be asked for with a function attribute."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int = 0


def _suffix(half: bool) -> str:  # noqa: FBT001  which of two dtypes, the only question
    return "bf16" if half else "fp32"


def _blocks(count: int, each: int) -> int:
    return max(1, -(-count // each))


def _flat(kernel: str, count: int, each: int, threads: int = 256) -> Launch:
    """One thread for `each` neighbouring elements."""
    return Launch(kernel, (_blocks(count, each * threads), 1, 1), (threads, 1, 1))


# --- norms -----------------------------------------------------------------------------------------------


def norm_forward(*, centred: bool, half: bool, N: int, C: int) -> Launch:
    """Layer norm (centred) or RMS norm of x (N, C); raises `ArrayRefused` beyond 12,288 columns."""
    name = f"{'layer' if centred else 'rms'}norm_forward_{_suffix(half)}"
    warps = _warps_for(name, 4 * _padded(C), FREE_SHARED)
    return Launch(name, (_blocks(N, warps), 1, 1), (32 * warps, 1, 1), warps * 4 * _padded(C))


def norm_backward(*, centred: bool, half: bool, N: int, C: int) -> Launch:
    """Gradients of a norm; `norm_parts` blocks leave partial (parts, 2 or 1, C) for `norm_sums`."""
    name = f"{'layer' if centred else 'rms'}norm_backward_{_suffix(half)}"
    row = (8 if centred else 4) * _padded(C)
    warps = _warps_for(name, row, FREE_SHARED if row <= FREE_SHARED else SHARED_LIMIT)
    return Launch(name, (norm_parts(N), 1, 1), (32 * warps, 1, 1), warps * row)


def norm_parts(N: int) -> int:
    """How many partial sums of dweight and dbias there are: one for 16 rows, 512 at most."""
    return min(512, _blocks(N, 16))


def norm_sums(*, centred: bool, N: int, C: int) -> tuple[Launch, dict[str, int]]:
    """Sum what `norm_backward` left onto dweight (first) and dbias (second); also the integers."""
    columns = 2 * C if centred else C
    return column_sums(columns), {"parts": norm_parts(N), "columns": columns, "split": C}


def column_sums(columns: int) -> Launch:
    """Sum partial (parts, columns) over its first axis."""
    return Launch("column_sums", (_blocks(columns, 32), 1, 1), (256, 1, 1))


def _padded(C: int) -> int:
    return -(-C // 4) * 4


def _warps_for(name: str, row_bytes: int, limit: int) -> int:
    for warps in (4, 2, 1):
        if warps * row_bytes <= limit:
            return warps
    raise ArrayRefused(
        f"cuda kernel {name}: expected rows that fit {limit} bytes of shared memory, found {row_bytes}; "
        "choose a narrower model"
    )


# --- optimizer -------------------------------------------------------------------------------------------


def adamw(*, stochastic: bool, count: int) -> Launch:
    """One AdamW step over `count` elements."""
    return _flat("adamw_stochastic" if stochastic else "adamw_nearest", count, 4)
