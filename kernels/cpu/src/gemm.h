// Matrix products: out = finish(A·B), A (M, K), B (K, N), in float32 or with bf16 factors and float32 sums.
#pragma once

#include "engine.h"
#include "vec.h"

namespace KERNELS_ISA {

using kernels::Engine;

// Element (r, c) lies at data[r·row_step + c·column_step]; one of the two steps is 1. Either float32 or bf16.
struct Matrix {
    const void* data;
    long row_step, column_step;
    bool is_half;
};

// What becomes of a sum s at (r, c), in this order; what is null is left out:
//   s += bias[c];  s += residual[r, c];  s *= gelu'(slope_at[r, c]);  out[r, c] = s or, with `add`, += s;
//   activated[r, c] = gelu(s).
// `stride` elements lie between two rows of out, residual (float32), slope_at and activated (both as out is).
struct Finish {
    void* out;
    long stride;
    bool is_half;
    bool add;
    const float* bias;
    const float* residual;
    const void* slope_at;
    void* activated;
};

struct Product {
    long M, N, K;
    Matrix a, b;
    bool in_half;  // round both factors to bf16
    Finish finish;
};

// Every element is summed in an order that follows from K alone, so the number of threads changes no bit.
kernels::Outcome multiply(Engine* engine, const Product& product);

// The tile that everything is made of; attention builds on it too. A tile of up to kRows rows and kVectors·W columns
// is summed over `units` of K: a unit is one float32, or two neighbouring bf16 (K even).
constexpr int kRows = 6;
constexpr int kVectors = KERNELS_WIDTH == 16 ? 4 : 2;
constexpr long kColumns = kVectors * W;

// Row r of A at unit k: a[r·row_step + k·unit_step], 4 bytes each. B packed: (units, kColumns). Row r of the sums:
// out[r·out_step], whole vectors; they start at what lies there with `add`, else at zero.
typedef void (*Tile)(long units, const float* a, long row_step, long unit_step, const float* b, float* out,
                     long out_step, bool add);
Tile tile_for(long rows, long columns, bool in_half);

// Whether bf16 factors stay bf16 in a packed panel: only where the processor multiplies them.
constexpr bool packs_half(bool in_half) { return in_half && KERNELS_BF16_DOT; }
constexpr long units_of(long K, bool packed_half) { return packed_half ? (K + 1) / 2 : K; }

// Packs columns [c0, c0 + columns) of rows [k0, k0 + count) of B into (units, kColumns), zeros where it has none.
void pack_columns(float* panel, const Matrix& b, long k0, long count, long c0, long columns, bool in_half);

}  // namespace KERNELS_ISA
