// Token and position embedding: rows of two tables summed, and the gradients of both without atomics on floats.
//
// The gradient of a token's row is the sum of dout over its places. They are found by a stable sort (sort.cu), in
// whose order they are summed in chunks of 64 places: a run of one token that ends inside a chunk is added to its row
// there; what crosses a chunk's edge is left in `edges` and added up by `embedding_edges`, chunk after chunk.
//
// Shapes: N = B·T rows, C columns; everything float32, tokens int64 in [0, V).
#include "rows.cuh"

constexpr int kWide = 4;
constexpr int kChunk = 64;

KERNEL(256) embedding_forward(float* out, const i64* tokens, const float* table, const float* positions, int N, int T, int C) {
    const Place at = place_in_rows(C, kWide);
    if (at.row >= N) return;
    const int left = C - at.column;
    float value[kWide];
    load(value, table + tokens[at.row] * C + at.column, left);
    if (positions) {
        float other[kWide];
        load(other, positions + at.row % T * C + at.column, left);
#pragma unroll
        for (int i = 0; i < kWide; i++) value[i] += other[i];
    }
    store(out + at.row * C + at.column, value, left);
}

// dpositions (≥T, C) += the sum of dout (B, T, C) over the batch.
KERNEL(256) embedding_positions(float* dpositions, const float* dout, int B, int T, int C) {
    const Place at = place_in_rows(C, kWide);
    if (at.row >= T) return;
    const int left = C - at.column;
    float sum[kWide] = {};
    for (int b = 0; b < B; b++) {
        float value[kWide];
        load(value, dout + (static_cast<i64>(b) * T + at.row) * C + at.column, left);
#pragma unroll
        for (int i = 0; i < kWide; i++) sum[i] += value[i];
    }
    float before[kWide];
    float* const to = dpositions + at.row * C + at.column;
    load(before, to, left);
#pragma unroll
    for (int i = 0; i < kWide; i++) sum[i] += before[i];
    store(to, sum, left);
}

DEVICE void add_to(float* to, const float (&sum)[kWide], int left) {
    float before[kWide];
    load(before, to, left);
#pragma unroll
    for (int i = 0; i < kWide; i++) before[i] += sum[i];
    store(to, before, left);
}

// One warp per chunk of the sorted places and 128 columns. keys (N,) are the tokens in their order, rows (N,) the
// places they come from; edges (chunks, 2, C): what a run that came in from the left left here, and what goes on to
// the right. A run that fills the whole chunk counts as coming in.
KERNEL(128) embedding_chunks(float* dtable, float* edges, const float* dout, const u32* keys, const u32* rows, int N, int C) {
    const int lane = threadIdx.x % kWarp;
    const int chunk = blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp;
    const int column = (blockIdx.y * kWarp + lane) * kWide, left = C - column;
    const int begin = chunk * kChunk, end = min(begin + kChunk, N);
    if (begin >= N || left <= 0) return;
    bool inside = begin > 0 && keys[begin - 1] == keys[begin];  // does the run come in from the left?
    float sum[kWide] = {};
    for (int i = begin; i < end; i++) {
        float value[kWide];
        load(value, dout + static_cast<i64>(rows[i]) * C + column, left);
#pragma unroll
        for (int k = 0; k < kWide; k++) sum[k] += value[k];
        const bool goes_on = i + 1 < N && keys[i + 1] == keys[i];
        if (goes_on && i + 1 < end) continue;
        if (inside)
            store(edges + (static_cast<i64>(chunk) * 2 + 0) * C + column, sum, left);
        else if (goes_on)
            store(edges + (static_cast<i64>(chunk) * 2 + 1) * C + column, sum, left);
        else
            add_to(dtable + static_cast<i64>(keys[i]) * C + column, sum, left);
        inside = false;
#pragma unroll
        for (int k = 0; k < kWide; k++) sum[k] = 0.0f;
    }
}

// One warp per chunk and 128 columns: the run that begins in this chunk and leaves it is followed to its end.
KERNEL(128) embedding_edges(float* dtable, const float* edges, const u32* keys, int N, int C) {
    const int lane = threadIdx.x % kWarp;
    const int chunk = blockIdx.x * (blockDim.x / kWarp) + threadIdx.x / kWarp;
    const int column = (blockIdx.y * kWarp + lane) * kWide, left = C - column;
    const int begin = chunk * kChunk, end = begin + kChunk;
    if (end >= N || left <= 0) return;
    const u32 key = keys[end - 1];
    const bool leaves = keys[end] == key;
    const bool began_before = begin > 0 && keys[begin - 1] == key && keys[begin] == key;
    if (!leaves || began_before) return;
    float sum[kWide];
    load(sum, edges + (static_cast<i64>(chunk) * 2 + 1) * C + column, left);
    for (int next = chunk + 1; next * kChunk < N && keys[next * kChunk] == key; next++) {
        float value[kWide];
        load(value, edges + static_cast<i64>(next) * 2 * C + column, left);
#pragma unroll
        for (int k = 0; k < kWide; k++) sum[k] += value[k];
    }
    add_to(dtable + static_cast<i64>(key) * C + column, sum, left);
}
