// What attention's forward and backward share: tiles of one head in shared memory, and products of tiles.
//
// A head's rows are D wide in shared memory, filled up with zeros beyond their own width, and 16 bytes apart more
// than that: 8 rows then begin in 8 different groups of banks, so that ldmatrix meets no conflict for any D here.
// A warp has M times 16 rows of a left tile; score[m][n] is 16 by 8, as lanes hold the sums of mma.m16n8k16:
// elements 0 and 1 in row lane/4, 2 and 3 in row lane/4 + 8, columns lane%4·2 and the next.
#pragma once

#include "tensor.cuh"

template <int D>
constexpr int kStride = D + 8;  // elements from row to row of a tile

// Begins to load rows [first, first + ROWS) of a head, those beyond T as zeros.
template <int D, int ROWS>
DEVICE void load_tile(bf16* tile, const bf16* head, i64 stride, int first, int T, int width) {
    constexpr int kChunks = D / 8;
    for (int i = threadIdx.x; i < ROWS * kChunks; i += blockDim.x) {
        const int row = i / kChunks, column = i % kChunks * 8;
        const bool there = first + row < T && column < width;
        copy_async(tile + row * kStride<D> + column, there ? head + (first + row) * stride + column : head, there);
    }
}

// This lane's address for 16 rows by 16 columns as a left factor, or, turned, as a right factor whose rows are summed.
template <int D>
DEVICE const bf16* left_at(const bf16* tile, int row, int column) {
    const int lane = threadIdx.x % kWarp;
    return tile + (row + lane % 16) * kStride<D> + column + lane / 16 * 8;
}

// This lane's address for 16 rows by 16 columns as a right factor whose columns are summed.
template <int D>
DEVICE const bf16* right_at(const bf16* tile, int row, int column) {
    const int lane = threadIdx.x % kWarp;
    return tile + (row + lane % 8 + lane / 16 * 8) * kStride<D> + column + lane / 8 % 2 * 8;
}

template <int M, int N>
DEVICE void clear(float (&sum)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) sum[m][n][i] = 0.0f;
}

// score (16·M, 8·N) = left · rightᵀ, for 16·M rows of left and 8·N rows of right, all D wide.
template <int D, int M, int N>
DEVICE void score_rows(float (&score)[M][N][4], const bf16* left, const bf16* right) {
    clear(score);
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        u32 a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) matrix_load(a[m], left_at<D>(left, 16 * m, k));
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            u32 b[4];
            matrix_load(b, right_at<D>(right, 8 * n, k));
#pragma unroll
            for (int m = 0; m < M; m++) {
                product(score[m][n], a[m], b[0], b[1]);
                product(score[m][n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// sum (16·M, D) += weight (16·M, 8·N), rounded to bf16, times 8·N rows.
template <int D, int M, int N>
DEVICE void add_rows(float (&sum)[M][D / 8][4], const float (&weight)[M][N][4], const bf16* rows) {
#pragma unroll
    for (int k = 0; k < N; k += 2) {
        u32 a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) a[m][i] = narrow_two(weight[m][k + i / 2][i % 2 * 2], weight[m][k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            u32 b[4];
            matrix_load_turned(b, left_at<D>(rows, 8 * k, 8 * n));
#pragma unroll
            for (int m = 0; m < M; m++) {
                product(sum[m][n], a[m], b[0], b[1]);
                product(sum[m][n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// Writes sum · factor, one factor per row, to rows [first, …) of a head, those before T and columns within width.
template <int D, int M>
DEVICE void write_rows(bf16* head, i64 stride, int first, int T, int width, const float (&sum)[M][D / 8][4], const float (&factor)[M][2]) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = first + 16 * m + lane / 4 + 8 * half;
            if (row >= T) continue;
#pragma unroll
            for (int n = 0; n < D / 8; n++) {
                const int column = 8 * n + lane % 4 * 2;
                if (8 * n >= width) break;
                const u32 two = narrow_two(sum[m][n][2 * half] * factor[m][half], sum[m][n][2 * half + 1] * factor[m][half]);
                *reinterpret_cast<u32*>(head + row * stride + column) = two;
            }
        }
}
