// The last touch of a tile of sums on its way to memory: bias, residual, GELU and rounding, see `Finish`.
#pragma once

#include "gemm.h"

namespace KERNELS_ISA {

// A vector at a time; n < W at the right edge.
template <typename T>
INLINE void finish_vector(const Finish& f, Vf s, long at, long column, long n) {
    if (f.bias) s += load_up_to(f.bias + column, n);
    if (f.residual) s += load_up_to(f.residual + at, n);
    if (f.slope_at) s *= gelu_slope(load_up_to(static_cast<const T*>(f.slope_at) + at, n));
    T* out = static_cast<T*>(f.out) + at;
    if (f.add) s += load_up_to(out, n);
    store_up_to(out, s, n);
    if (f.activated) store_up_to(static_cast<T*>(f.activated) + at, gelu(s), n);
}

template <typename T>
static void finish_tile(const Finish& f, const float* tile, long row, long rows, long column, long columns) {
    for (long r = 0; r < rows; r++) {
        const long at = (row + r) * f.stride + column;
        if (columns == kColumns)
            for (long c = 0; c < kColumns; c += W) finish_vector<T>(f, load(tile + r * kColumns + c), at + c, column + c, W);
        else
            for (long c = 0; c < columns; c += W)
                finish_vector<T>(f, load(tile + r * kColumns + c), at + c, column + c, columns - c);
    }
}

// Asks for what `finish` will touch, a tile ahead of time: rows far apart are no stream that a processor foresees
// (bf16, 2048x384 by 384x1152, one thread of Zen 4, 2026-11: 180 to 201 GFLOP/s).
INLINE void expect(const Finish& f, long row, long rows, long column, long columns) {
    const long size = f.is_half ? 2 : 4, line = 64;
    for (long r = 0; r < rows; r++) {
        const long at = (row + r) * f.stride + column;
        for (long byte = 0; byte < columns * size; byte += line) {
            __builtin_prefetch(static_cast<const char*>(f.out) + at * size + byte, 1);
            if (f.activated) __builtin_prefetch(static_cast<const char*>(f.activated) + at * size + byte, 1);
            if (f.slope_at) __builtin_prefetch(static_cast<const char*>(f.slope_at) + at * size + byte);
        }
        if (!f.residual) continue;
        for (long c = 0; c < columns; c += line / 4) __builtin_prefetch(f.residual + at + c);
    }
}

INLINE void finish(const Finish& f, const float* tile, long row, long rows, long column, long columns) {
    if (f.is_half) finish_tile<half>(f, tile, row, rows, column, columns);
    else finish_tile<float>(f, tile, row, rows, column, columns);
}

}  // namespace KERNELS_ISA
