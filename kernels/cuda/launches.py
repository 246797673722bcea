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


def _rows(kernel: str, rows: int, columns: int, each: int, threads: int = 256) -> Launch:
    """One thread for `each` neighbouring columns of a row."""
    return Launch(kernel, (_blocks(rows * _blocks(columns, each), threads), 1, 1), (threads, 1, 1))


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


def global_norm(count: int) -> tuple[Launch, Launch]:
    """Stage one, into `square_parts` partial sums (float64), and stage two, one block."""
    first = Launch("square_sums", (square_parts(count), 1, 1), (256, 1, 1))
    return first, Launch("root_of_sums", (1, 1, 1), (256, 1, 1))


def square_parts(count: int) -> int:
    """How many partial sums of squares there are: 1,024 at most."""
    return min(1024, _blocks(count, 8 * 256))


# --- what goes through its arrays once -------------------------------------------------------------------


def gelu_forward(*, half: bool, count: int) -> Launch:
    """GELU of `count` elements, after a bias where one is given."""
    return _flat(f"gelu_forward_{_suffix(half)}", count, 8)


def gelu_backward(*, half: bool, count: int) -> Launch:
    """Gradient of GELU."""
    return _flat(f"gelu_backward_{_suffix(half)}", count, 8)


def swiglu_forward(*, half: bool, N: int, F: int) -> Launch:
    """SwiGLU of x (N, 2·F), after a bias where one is given."""
    return _rows(f"swiglu_forward_{_suffix(half)}", N, F, 8)


def swiglu_backward(*, half: bool, N: int, F: int) -> Launch:
    """Gradient of SwiGLU."""
    return _rows(f"swiglu_backward_{_suffix(half)}", N, F, 8)


def dropout(*, half: bool, N: int, C: int) -> Launch:
    """Dropout of (N, C), and its gradient."""
    return _rows(f"dropout_{_suffix(half)}", N, C, 4)


def residual(*, half: bool, count: int) -> Launch:
    """Sum of a float32 stream and a branch, and a bias where one is given."""
    return _flat(f"residual_{_suffix(half)}", count, 8)


def cast(*, to_half: bool, count: int) -> Launch:
    """Cast `count` elements from float32 to bf16, or back."""
    return _flat("cast_to_bf16" if to_half else "cast_to_fp32", count, 8)


def rotary(*, half: bool, N: int, C: int, heads: int) -> Launch:
    """Turn the queries and keys of N = B·T rows."""
    each = _blocks(C // heads // 2, 4)
    return _rows(f"rotary_{_suffix(half)}", N, 2 * heads * each, 1)


# --- bias ------------------------------------------------------------------------------------------------


def bias_forward(*, half: bool, count: int) -> Launch:
    """Add a bias to each row of a flat array, in place."""
    return _flat(f"bias_forward_{_suffix(half)}", count, 8)


def bias_backward(*, half: bool, N: int, O: int) -> Launch:  # noqa: E741  the table's letter for outputs
    """Leave column sums of dout (N, O) in partial (`bias_parts`, O), for `column_sums`."""
    return Launch(f"bias_backward_{_suffix(half)}", (_blocks(O, 256), bias_parts(N), 1), (256, 1, 1))


def bias_parts(N: int) -> int:
    """How many partial sums of a bias's gradient there are: one for 128 rows, 256 at most."""
    return min(256, _blocks(N, 128))


# --- attention -------------------------------------------------------------------------------------------

HEAD_WIDTHS = (32, 64, 96, 128)  # those that kernels are made for; others are filled up to the next


def attention_forward(*, B: int, T: int, C: int, heads: int) -> Launch:
    """Attention of qkv (B, T, 3·C); D = C/heads is a multiple of 8, 128 at most, else `ArrayRefused`.

    qkv, and dout in the backward, begin at addresses that 16 divides, as cp.async demands.
    """
    D = _head_width(C, heads)
    queries = 128 if D <= 64 else 64  # per block, as attention_forward.cu has it
    return Launch(
        f"attention_forward_{D}", (B * heads, _blocks(T, queries), 1), (128, 1, 1), 4 * _tile_bytes(D, 64)
    )


def attention_backward(*, B: int, T: int, C: int, heads: int) -> tuple[Launch, Launch, Launch]:
    """Leave rowsum(dout ∘ out) in delta (B, H, T) float32, then the gradients of K and V, then those of Q."""
    D = _head_width(C, heads)
    moving = 64 if D <= 64 else 32  # rows of the tiles that pass by, as attention_backward.cu has it
    shared = 2 * _tile_bytes(D, 64) + 4 * _tile_bytes(D, moving)
    grid, block = (B * heads, _blocks(T, 64), 1), (128, 1, 1)
    return (
        Launch("attention_delta", (_blocks(B * T * heads, 4), 1, 1), block),
        Launch(f"attention_backward_keys_{D}", grid, block, shared + 8 * moving),
        Launch(f"attention_backward_queries_{D}", grid, block, shared),
    )


def _head_width(C: int, heads: int) -> int:
    width = C // heads
    if C % heads or width % 8 or width > HEAD_WIDTHS[-1]:
        raise ArrayRefused(
            f"cuda attention: expected heads whose width is a multiple of 8 and at most {HEAD_WIDTHS[-1]}, "
            f"found {C} columns for {heads} heads; choose another number of heads"
        )
    return min(D for D in HEAD_WIDTHS if width <= D)


def _tile_bytes(D: int, rows: int) -> int:
    return rows * (D + 8) * 2


# --- loss ------------------------------------------------------------------------------------------------


def softmax_cross_entropy(stage: str, *, half: bool, N: int) -> Launch:
    """`stage` is "forward", "backward", or "both": the gradient in the logits' place in one launch."""
    return Launch(f"softmax_cross_entropy_{stage}_{_suffix(half)}", (N, 1, 1), (256, 1, 1))


# --- embedding -------------------------------------------------------------------------------------------

SORT_BLOCK = 1024  # keys per block of the sort, as sort.cu has it
CHUNK = 64  # sorted places per warp, as embedding.cu has it


def embedding_forward(*, N: int, C: int) -> Launch:
    """Write N = B·T rows of C columns."""
    return _rows("embedding_forward", N, C, 4)


def embedding_positions(*, T: int, C: int) -> Launch:
    """Add to the gradient of the position table."""
    return _rows("embedding_positions", T, C, 4)


def sort_pass(N: int) -> tuple[Launch, Launch, Launch]:
    """One pass: counts (256, `sort_blocks`) uint32, the scan over all of them, and the scatter."""
    grid, block = (sort_blocks(N), 1, 1), (256, 1, 1)
    return (
        Launch("sort_count", grid, block),
        Launch("sort_scan", (1, 1, 1), block),
        Launch("sort_scatter", grid, block),
    )


def sort_blocks(N: int) -> int:
    """How many blocks sort N keys."""
    return _blocks(N, SORT_BLOCK)


def sort_shifts(V: int) -> tuple[int, ...]:
    """Return the shift of each pass that sorts tokens in [0, V)."""
    return tuple(range(0, max(1, (V - 1).bit_length()), 8))


def embedding_backward(*, N: int, C: int) -> tuple[Launch, Launch]:
    """Sum within chunks, then across their edges, which lie in (`embedding_parts`, 2, C) float32."""
    grid = (_blocks(embedding_parts(N), 4), _blocks(C, 128), 1)
    return Launch("embedding_chunks", grid, (128, 1, 1)), Launch("embedding_edges", grid, (128, 1, 1))


def embedding_parts(N: int) -> int:
    """How many chunks N sorted places are cut into."""
    return _blocks(N, CHUNK)
