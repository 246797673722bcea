// The innermost loop: a tile of C in registers, one column of A times one row of B at a time.
//
// 6 rows by 4 vectors of AVX-512 (24 of 32 registers hold sums), 6 by 2 of AVX2 or SSE (12 of 16): the shapes at which
// the multipliers, not the loads, are the limit (Van Zee & van de Geijn 2015, "BLIS", section 4.2.3).
#include "gemm.h"

namespace KERNELS_ISA {

// Products summed one after the other before the sum joins the others: the rounding of a sum grows with the root of
// the length of its chain. Gradient of 6 layers of width 384, off float64: 1.7e-6 without an end, see bench/results.
constexpr long kChain = 192;

template <bool in_half>
INLINE Vf multiply_add(float a, Vf b, Vf c) {
#if KERNELS_BF16_DOT
    if (in_half) return (Vf)_mm512_dpbf16_ps((__m512)c, (__m512bh)splat(a), (__m512bh)b);
#endif
    return splat(a) * b + c;
}

template <int rows, int vectors, bool in_half>
static void tile(long units, const float* a, long row_step, long unit_step, const float* b, float* out,
                 long out_step, bool add) {
    // bf16 factors err far more than any chain of float32 sums does.
    const long chain = in_half ? units : kChain;
    long at = 0;
    do {
        const long count = least(chain, units);
        Vf c[rows][vectors] = {};
        for (long k = 0; k < count; k++, at += unit_step, b += kColumns) {
            Vf right[vectors];
            for (int v = 0; v < vectors; v++) right[v] = load(b + v * W);
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const float left = a[r * row_step + at];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) c[r][v] = multiply_add<in_half>(left, right[v], c[r][v]);
            }
        }
        for (int r = 0; r < rows; r++)
            for (int v = 0; v < vectors; v++) {
                float* sum = out + r * out_step + v * W;
                store(sum, add ? load(sum) + c[r][v] : c[r][v]);
            }
        units -= count;
        add = true;
    } while (units > 0);
}

template <int rows, bool in_half>
static Tile tile_of(long vectors) {
    if (vectors <= 1) return tile<rows, 1, in_half>;
    if (vectors == 2 || kVectors == 2) return tile<rows, 2, in_half>;
    if (vectors == 3) return tile<rows, kVectors == 2 ? 2 : 3, in_half>;
    return tile<rows, kVectors, in_half>;
}

template <bool in_half>
static Tile tile_of(long rows, long vectors) {
    switch (rows) {
        case 1: return tile_of<1, in_half>(vectors);
        case 2: return tile_of<2, in_half>(vectors);
        case 3: return tile_of<3, in_half>(vectors);
        case 4: return tile_of<4, in_half>(vectors);
        case 5: return tile_of<5, in_half>(vectors);
        default: return tile_of<6, in_half>(vectors);
    }
}

Tile tile_for(long rows, long columns, bool in_half) {
    const long vectors = ceil_div(columns, W);
    return packs_half(in_half) ? tile_of<true>(rows, vectors) : tile_of<false>(rows, vectors);
}

}  // namespace KERNELS_ISA
