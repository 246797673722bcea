// Causal attention, backward, without an atomic addition: one kernel per side, so that sums have one order.
//
// With P = exp(Q·Kᵀ/√D - lse) made again from lse and delta = rowsum(dO ∘ O):  dV = Pᵀ·dO;  dS = P ∘ (dO·Vᵀ - delta);
// dQ = dS·K/√D;  dK = dSᵀ·Q/√D  (Dao et al. 2022, B.2). `attention_backward_keys` has a block per tile of keys and
// goes over the queries, `attention_backward_queries` the other way round: seven products of tiles instead of five,
// but no gradient of queries has to be summed across blocks. In both, P and dS go from sums to factors in registers.
//
// Shapes as in attention_forward.cu; dqkv like qkv, dout like out; delta (B, H, T) float32.
#include "attention.cuh"

constexpr int kWarps = 4;

// delta = rowsum(dout ∘ out) per head; a warp takes a row of a head.
KERNEL(128) attention_delta(float* delta, const bf16* dout, const bf16* out, int rows, int T, int C, int heads) {
    constexpr int kWide = 4;
    const int lane = threadIdx.x % kWarp, width = C / heads;
    const i64 each = static_cast<i64>(blockIdx.x) * kWarps + threadIdx.x / kWarp;  // head after head of a row
    if (each >= static_cast<i64>(rows) * heads) return;
    const i64 row = each / heads, head = each % heads, at = row * C + head * width;
    float sum = 0.0f;
    for (int c = lane * kWide; c < width; c += kWarp * kWide) {
        float a[kWide], b[kWide];
        load(a, dout + at + c, width - c);
        load(b, out + at + c, width - c);
#pragma unroll
        for (int i = 0; i < kWide; i++) sum += a[i] * b[i];
    }
    sum = warp_sum(sum);
    if (lane == 0) delta[(row / T * heads + head) * T + row % T] = sum;
}

// A lane's places in a score tile whose rows or columns are numbered from `row` and `column`.
DEVICE int row_of(int m, int i) { return 16 * m + threadIdx.x % kWarp / 4 + i / 2 * 8; }
DEVICE int column_of(int n, int i) { return 8 * n + threadIdx.x % 4 * 2 + i % 2; }

template <int M, int N>
DEVICE void slopes(float (&chance)[M][N][4], float (&slope)[M][N][4], int m, int n, int i, float scale, float lse, float delta, bool seen) {
    const float p = seen ? exp2_fast(chance[m][n][i] * scale - lse) : 0.0f;
    chance[m][n][i] = p;
    slope[m][n][i] = p * (slope[m][n][i] - delta);
}

// dK and dV of a tile of keys. Scores are transposed here: keys are rows, queries are columns.
template <int D, int M, int QUERIES>
DEVICE void for_keys(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv, float scale, int T, int C, int heads) {
    constexpr int kKeys = 16 * M * kWarps, kOwn = kKeys * kStride<D>, kTile = QUERIES * kStride<D>;
    DYNAMIC_SHARED(bf16, own);  // keys, values, then two pairs of tiles of queries and of their gradients, then lse and delta
    bf16* const tiles = own + 2 * kOwn;
    float* const terms = reinterpret_cast<float*>(tiles + 4 * kTile);
    const int warp = threadIdx.x / kWarp, width = C / heads;
    const int batch = blockIdx.x / heads, head = blockIdx.x % heads;
    const int begin = blockIdx.y * kKeys, first = begin + 16 * M * warp;
    const i64 stride = 3 * static_cast<i64>(C), origin = batch * T * stride + head * width;
    const bf16* const queries = qkv + origin;
    const bf16* const dresult = dout + static_cast<i64>(batch) * T * C + head * width;
    lse += static_cast<i64>(blockIdx.x) * T;
    delta += static_cast<i64>(blockIdx.x) * T;

    const int start = begin / QUERIES * QUERIES;
    load_tile<D, kKeys>(own, queries + C, stride, begin, T, width);
    load_tile<D, kKeys>(own + kOwn, queries + 2 * C, stride, begin, T, width);
    load_tile<D, QUERIES>(tiles, queries, stride, start, T, width);
    load_tile<D, QUERIES>(tiles + kTile, dresult, C, start, T, width);
    close_copies();

    float dkey[M][D / 8][4], dvalue[M][D / 8][4];
    clear(dkey);
    clear(dvalue);
    for (int query = start; query < T; query += QUERIES) {
        const int turn = (query - start) / QUERIES % 2;
        const bf16* const tile = tiles + turn * 2 * kTile;
        for (int i = threadIdx.x; i < QUERIES; i += blockDim.x) {  // where there is no query, nothing has a chance
            terms[i] = query + i < T ? lse[query + i] * kLog2E : infinity();
            terms[QUERIES + i] = query + i < T ? delta[query + i] : 0.0f;
        }
        if (query + QUERIES < T) {
            bf16* const next = tiles + (1 - turn) * 2 * kTile;
            load_tile<D, QUERIES>(next, queries, stride, query + QUERIES, T, width);
            load_tile<D, QUERIES>(next + kTile, dresult, C, query + QUERIES, T, width);
        }
        close_copies();
        wait_copies<1>();
        __syncthreads();
        if (query + QUERIES > first) {  // else all these queries come before this warp's keys
            float chance[M][QUERIES / 8][4], slope[M][QUERIES / 8][4];
            score_rows<D>(chance, own + 16 * M * warp * kStride<D>, tile);
            score_rows<D>(slope, own + kOwn + 16 * M * warp * kStride<D>, tile + kTile);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int column = column_of(n, i);
                        const bool seen = first + row_of(m, i) <= query + column;
                        slopes(chance, slope, m, n, i, scale * kLog2E, terms[column], terms[QUERIES + column], seen);
                    }
            add_rows<D>(dvalue, chance, tile + kTile);
            add_rows<D>(dkey, slope, tile);
        }
        __syncthreads();
    }
    float factor[M][2];
#pragma unroll
    for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = scale;
    write_rows<D>(dqkv + origin + C, stride, first, T, width, dkey, factor);
#pragma unroll
    for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = 1.0f;
    write_rows<D>(dqkv + origin + 2 * C, stride, first, T, width, dvalue, factor);
}

// dQ of a tile of queries: queries are rows, keys are columns.
template <int D, int M, int KEYS>
DEVICE void for_queries(bf16* dqkv, const bf16* dout, const float* lse, const float* delta, const bf16* qkv, float scale, int T, int C, int heads) {
    constexpr int kQueries = 16 * M * kWarps, kOwn = kQueries * kStride<D>, kTile = KEYS * kStride<D>;
    DYNAMIC_SHARED(bf16, own);  // queries, gradients of their results, then two pairs of tiles of keys and of values
    bf16* const tiles = own + 2 * kOwn;
    const int warp = threadIdx.x / kWarp, width = C / heads;
    const int batch = blockIdx.x / heads, head = blockIdx.x % heads;
    const int begin = (gridDim.y - 1 - blockIdx.y) * kQueries, first = begin + 16 * M * warp;  // the longest first
    const i64 stride = 3 * static_cast<i64>(C), origin = batch * T * stride + head * width;
    const bf16* const queries = qkv + origin;
    const bf16 *const keys = queries + C, *const values = keys + C;

    load_tile<D, kQueries>(own, queries, stride, begin, T, width);
    load_tile<D, kQueries>(own + kOwn, dout + static_cast<i64>(batch) * T * C + head * width, C, begin, T, width);
    load_tile<D, KEYS>(tiles, keys, stride, 0, T, width);
    load_tile<D, KEYS>(tiles + kTile, values, stride, 0, T, width);
    close_copies();
    float at_lse[M][2], at_delta[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = first + row_of(m, 2 * half);
            const i64 at = static_cast<i64>(blockIdx.x) * T + row;
            at_lse[m][half] = row < T ? lse[at] * kLog2E : infinity();
            at_delta[m][half] = row < T ? delta[at] : 0.0f;
        }

    float dquery[M][D / 8][4];
    clear(dquery);
    const int end = min(begin + kQueries, T);
    for (int key = 0; key < end; key += KEYS) {
        const int turn = key / KEYS % 2;
        const bf16* const tile = tiles + turn * 2 * kTile;
        if (key + KEYS < end) {
            bf16* const next = tiles + (1 - turn) * 2 * kTile;
            load_tile<D, KEYS>(next, keys, stride, key + KEYS, T, width);
            load_tile<D, KEYS>(next + kTile, values, stride, key + KEYS, T, width);
        }
        close_copies();
        wait_copies<1>();
        __syncthreads();
        if (key <= first + 16 * M - 1) {
            float chance[M][KEYS / 8][4], slope[M][KEYS / 8][4];
            score_rows<D>(chance, own + 16 * M * warp * kStride<D>, tile);
            score_rows<D>(slope, own + kOwn + 16 * M * warp * kStride<D>, tile + kTile);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const bool seen = key + column_of(n, i) <= first + row_of(m, i);
                        slopes(chance, slope, m, n, i, scale * kLog2E, at_lse[m][i / 2], at_delta[m][i / 2], seen);
                    }
            add_rows<D>(dquery, slope, tile);
        }
        __syncthreads();
    }
    float factor[M][2];
#pragma unroll
    for (int m = 0; m < M; m++) factor[m][0] = factor[m][1] = scale;
    write_rows<D>(dqkv + origin, stride, first, T, width, dquery, factor);
}

#define KERNELS_OF(D, M, WIDE)                                                                                         \
    KERNEL(128) attention_backward_keys_##D(bf16* dqkv, const bf16* dout, const float* lse, const float* delta,        \
                                            const bf16* qkv, float scale, int T, int C, int heads) {                   \
        for_keys<D, M, WIDE>(dqkv, dout, lse, delta, qkv, scale, T, C, heads);                                         \
    }                                                                                                                  \
    KERNEL(128) attention_backward_queries_##D(bf16* dqkv, const bf16* dout, const float* lse, const float* delta,     \
                                               const bf16* qkv, float scale, int T, int C, int heads) {                \
        for_queries<D, M, WIDE>(dqkv, dout, lse, delta, qkv, scale, T, C, heads);                                      \
    }

KERNELS_OF(32, 1, 64)
KERNELS_OF(64, 1, 64)
KERNELS_OF(96, 1, 32)
KERNELS_OF(128, 1, 32)
