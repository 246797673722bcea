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

INLINE void finish(const Finish& f, const float* tile, long row, long rows, long column, long columns) {
    if (f.is_half) finish_tile<half>(f, tile, row, rows, column, columns);
    else finish_tile<float>(f, tile, row, rows, column, columns);
}

}  // namespace KERNELS_ISA
