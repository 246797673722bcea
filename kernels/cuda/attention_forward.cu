// Causal attention, forward, in one pass over the keys (Dao et al. 2022; Dao 2023, algorithm 1).
//
// qkv (B, T, 3·C) bf16 holds Q, K and V side by side; out (B, T, C) bf16; lse (B, H, T) float32, in nats. D = C/H is a
// multiple of 8, at most 128; the kernels are made for 32, 64, 96 and 128 and fill up with zeros to the next of them.
// A block has 4 warps and 64·M queries of one head. Keys and values come in tiles of 64, the next while one is in use;
// queries stay in registers, and came through the place of the second tile. Tiles after the last query are not read.
#include "attention.cuh"

constexpr int kKeys = 64;
constexpr int kWarps = 4;

// One lane's share of the running softmax: two rows per m.
template <int M>
struct Running {
    float most[M][2], sum[M][2];
};

// score becomes exp(score · scale - new maximum); the sums so far are brought to the new maximum.
template <int D, int M>
DEVICE void soften(float (&score)[M][kKeys / 8][4], float (&sum)[M][D / 8][4], Running<M>& running, float scale) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most = running.most[m][half];
#pragma unroll
            for (int n = 0; n < kKeys / 8; n++) most = fmaxf(most, fmaxf(score[m][n][2 * half], score[m][n][2 * half + 1]));
            most = fmaxf(most, __shfl_xor_sync(kAll, most, 1));
            most = fmaxf(most, __shfl_xor_sync(kAll, most, 2));
            const float fade = exp2_fast((running.most[m][half] - most) * scale), shift = most * scale;
            float total = 0.0f;
#pragma unroll
            for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    score[m][n][i] = exp2_fast(score[m][n][i] * scale - shift);
                    total += score[m][n][i];
                }
            running.sum[m][half] = running.sum[m][half] * fade + total;  // of this lane's columns
            running.most[m][half] = most;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                sum[m][n][2 * half] *= fade;
                sum[m][n][2 * half + 1] *= fade;
            }
        }
}

// No query sees a key after itself.
template <int M>
DEVICE void hide(float (&score)[M][kKeys / 8][4], int query, int key) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < kKeys / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (key + 8 * n + lane % 4 * 2 + i % 2 > query + 16 * m + lane / 4 + i / 2 * 8) score[m][n][i] = -infinity();
}

template <int D, int M>
DEVICE void attend(bf16* out, float* lse, const bf16* qkv, float scale, int T, int C, int heads) {
    constexpr int kQueries = 16 * M * kWarps, kTile = kKeys * kStride<D>;
    static_assert(kQueries <= 2 * kKeys, "the queries pass through the place of a tile of keys and one of values");
    DYNAMIC_SHARED(bf16, tiles);  // two pairs of a tile of keys and one of values
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, width = C / heads;
    const int batch = blockIdx.x / heads, head = blockIdx.x % heads;
    const int begin = (gridDim.y - 1 - blockIdx.y) * kQueries, first = begin + 16 * M * warp;  // the longest first
    const i64 stride = 3 * static_cast<i64>(C);
    const bf16* const queries = qkv + batch * T * stride + head * width;
    const bf16 *const keys = queries + C, *const values = keys + C;

    load_tile<D, kQueries>(tiles + 2 * kTile, queries, stride, begin, T, width);
    load_tile<D, kKeys>(tiles, keys, stride, 0, T, width);
    load_tile<D, kKeys>(tiles + kTile, values, stride, 0, T, width);
    close_copies();
    wait_copies<0>();
    __syncthreads();
    u32 query[D / 16][M][4];
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int m = 0; m < M; m++) matrix_load(query[k][m], left_at<D>(tiles + 2 * kTile, 16 * (M * warp + m), 16 * k));
    __syncthreads();

    float sum[M][D / 8][4];
    clear(sum);
    Running<M> running;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) running.most[m][half] = -infinity(), running.sum[m][half] = 0.0f;

    const int end = min(begin + kQueries, T);
    for (int key = 0; key < end; key += kKeys) {
        const bf16* const tile = tiles + key / kKeys % 2 * 2 * kTile;
        if (key + kKeys < end) {
            bf16* const next = tiles + (key / kKeys + 1) % 2 * 2 * kTile;
            load_tile<D, kKeys>(next, keys, stride, key + kKeys, T, width);
            load_tile<D, kKeys>(next + kTile, values, stride, key + kKeys, T, width);
        }
        close_copies();
        wait_copies<1>();
        __syncthreads();
        if (key <= first + 16 * M - 1) {  // else this warp's queries end before these keys begin
            float score[M][kKeys / 8][4];
            clear(score);
#pragma unroll
            for (int k = 0; k < D / 16; k++)
#pragma unroll
                for (int n = 0; n < kKeys / 8; n += 2) {
                    u32 b[4];
                    matrix_load(b, right_at<D>(tile, 8 * n, 16 * k));
#pragma unroll
                    for (int m = 0; m < M; m++) {
                        product(score[m][n], query[k][m], b[0], b[1]);
                        product(score[m][n + 1], query[k][m], b[2], b[3]);
                    }
                }
            if (key + kKeys > first) hide(score, first, key);
            soften<D>(score, sum, running, scale * kLog2E);
            add_rows<D>(sum, score, tile + kTile);
        }
        __syncthreads();
    }

    float factor[M][2];
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total = running.sum[m][half];
            total += __shfl_xor_sync(kAll, total, 1);
            total += __shfl_xor_sync(kAll, total, 2);
            factor[m][half] = 1.0f / total;
            const int row = first + 16 * m + lane / 4 + 8 * half;
            if (lane % 4 == 0 && row < T) lse[static_cast<i64>(blockIdx.x) * T + row] = running.most[m][half] * scale + logf(total);
        }
    write_rows<D>(out + (static_cast<i64>(batch) * T) * C + head * width, C, first, T, width, sum, factor);
}

KERNEL(128) attention_forward_32(bf16* out, float* lse, const bf16* qkv, float scale, int T, int C, int heads) { attend<32, 2>(out, lse, qkv, scale, T, C, heads); }
KERNEL(128) attention_forward_64(bf16* out, float* lse, const bf16* qkv, float scale, int T, int C, int heads) { attend<64, 2>(out, lse, qkv, scale, T, C, heads); }
KERNEL(128) attention_forward_96(bf16* out, float* lse, const bf16* qkv, float scale, int T, int C, int heads) { attend<96, 1>(out, lse, qkv, scale, T, C, heads); }
KERNEL(128) attention_forward_128(bf16* out, float* lse, const bf16* qkv, float scale, int T, int C, int heads) { attend<128, 1>(out, lse, qkv, scale, T, C, heads); }
