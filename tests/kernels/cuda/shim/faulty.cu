// Kernels with one mistake each, to show that the shim tells it.
#include "tensor.cuh"

// Half of the block never comes to the barrier, and waits for the other half at a shuffle it will not reach.
KERNEL(64) divergent_barrier(float* out) {
    SHARED(float, sum, 64);
    sum[threadIdx.x] = 1.0f;
    if (threadIdx.x < 32) __syncthreads();
    else if (threadIdx.x < 48) sum[threadIdx.x] = warp_sum(2.0f);
    out[threadIdx.x] = sum[threadIdx.x];
}

// Lanes of one warp meet for different things.
KERNEL(32) mixed_meeting(float* out) {
    if (threadIdx.x < 16) __syncwarp();
    else out[threadIdx.x] = warp_sum(1.0f);
}

// A barrier is missing between writing and reading.
KERNEL(64) missing_barrier(float* out) {
    SHARED(float, each, 64);
    each[threadIdx.x] = static_cast<float>(threadIdx.x);
    out[threadIdx.x] = each[(threadIdx.x + 1) % 64];
}

// Threads add to one cell in whatever order they come.
KERNEL(64) order_of_addition(float* out) {
    SHARED(float, sum, 1);
    if (threadIdx.x == 0) sum[0] = 0.0f;
    __syncthreads();
    sum[0] += 1.0f / (1.0f + threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = sum[0];
}

// Shared memory is read before anybody has written it.
KERNEL(32) unwritten(float* out) {
    SHARED(float, each, 32);
    out[threadIdx.x] = each[threadIdx.x];
}

// A copy is read before it was waited for (groups: one too many is left open), or after.
KERNEL(32) copied(float* out, const float* from, int early) {
    DYNAMIC_SHARED(float, tile);
    if (threadIdx.x < 8) copy_async(tile + 4 * threadIdx.x, from + 4 * threadIdx.x, threadIdx.x < 7);
    close_copies();
    if (early) wait_copies<1>();
    else wait_copies<0>();
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

// An address that ldmatrix does not take.
KERNEL(32) crooked(float* out) {
    DYNAMIC_SHARED(bf16, tile);
    u32 four[4];
    matrix_load(four, tile + threadIdx.x);
    out[threadIdx.x] = four[0];
}

// Eight rows that all begin in the same bank.
KERNEL(32) conflicting(float* out) {
    DYNAMIC_SHARED(bf16, tile);
    u32 four[4];
    matrix_load(four, tile + 64 * threadIdx.x);
    out[threadIdx.x] = four[0];
}

// One product of tiles of small integers, as the manual lays them out: out (16, 8) = a (16, 16) · b (8, 16)ᵀ.
KERNEL(32) one_product(float* out, const bf16* a, const bf16* b) {
    const int row = threadIdx.x / 4, pair = threadIdx.x % 4 * 2;
    const auto two = [](const bf16* from) { return from[0].bits | static_cast<u32>(from[1].bits) << 16; };
    float sum[4] = {};
    product(sum, {two(a + row * 16 + pair), two(a + (row + 8) * 16 + pair), two(a + row * 16 + pair + 8), two(a + (row + 8) * 16 + pair + 8)},
            two(b + row * 16 + pair), two(b + row * 16 + pair + 8));
    for (int i = 0; i < 4; i++) out[(row + i / 2 * 8) * 8 + pair + i % 2] = sum[i];
}

// Blocks leave their mark in one cell: the last one wins.
KERNEL(32) last_block(float* out) { out[threadIdx.x] = static_cast<float>(blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z); }
