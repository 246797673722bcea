// Where a thread's elements lie, in a flat array and in one of rows.
#pragma once

#include "device.cuh"

// First of the `wide` neighbours that this thread has in a flat array.
DEVICE i64 place(int wide) { return (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * wide; }

// Adds a row (width,), repeated along a flat array, to the W elements from `at` on.
template <int W>
DEVICE void add_row(float (&value)[W], const float* row, i64 at, int width) {
    int column = static_cast<int>(at % width);
    if (column + W <= width) {
        float other[W];
        load(other, row + column, W);
#pragma unroll
        for (int i = 0; i < W; i++) value[i] += other[i];
    } else {
#pragma unroll
        for (int i = 0; i < W; i++) {
            value[i] += row[column];
            column = column + 1 < width ? column + 1 : 0;
        }
    }
}

// A row, and the first of a thread's `wide` columns in it; rows take whole threads.
struct Place {
    i64 row;
    int column;
};

DEVICE Place place_in_rows(int width, int wide) {
    const u32 each = (width + wide - 1) / wide;
    const u64 thread = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
    return Place{static_cast<i64>(thread / each), static_cast<int>(thread % each) * wide};
}
