// A stable sort of tokens by radix, eight bits a pass: per block a count of each digit, one scan, one scatter.
//
// Integers only, so that nothing depends on an order of threads. A pass takes keys and rows (N,) uint32 to others;
// the first takes the tokens themselves, int64, and their numbers. After ⌈bits/8⌉ passes equal tokens stand in the
// order of their places.
#include "device.cuh"

constexpr int kDigits = 256;
constexpr int kWarps = 8;
constexpr int kRounds = 4;                        // of 32 keys per warp
constexpr int kBlock = kWarps * kWarp * kRounds;  // keys per block

DEVICE u32 key_at(const i64* tokens, const u32* keys, int i) { return tokens ? static_cast<u32>(tokens[i]) : keys[i]; }

// counts (256, blocks): how often each digit occurs in each block's keys. Exactly one of tokens and keys is not null.
KERNEL(256) sort_count(u32* counts, const i64* tokens, const u32* keys, int shift, int N) {
    SHARED(u32, count, kDigits);
    count[threadIdx.x] = 0;
    __syncthreads();
    const int begin = blockIdx.x * kBlock, end = min(begin + kBlock, N);
    for (int i = begin + threadIdx.x; i < end; i += blockDim.x) atomicAdd(&count[key_at(tokens, keys, i) >> shift & 255u], 1u);
    __syncthreads();
    counts[static_cast<i64>(threadIdx.x) * gridDim.x + blockIdx.x] = count[threadIdx.x];
}

// Turns counts (length,) into the sums of all before each, by one block.
KERNEL(256) sort_scan(u32* counts, int length) {
    SHARED(u32, sums, 256);
    const int each = (length + blockDim.x - 1) / blockDim.x;
    const int begin = min(static_cast<int>(threadIdx.x) * each, length), end = min(begin + each, length);
    u32 sum = 0;
    for (int i = begin; i < end; i++) sum += counts[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    u32 before = 0;
    for (u32 i = 0; i < threadIdx.x; i++) before += sums[i];
    for (int i = begin; i < end; i++) {
        const u32 count = counts[i];
        counts[i] = before;
        before += count;
    }
}

// Each key to its place. Within a block, warps and in them lanes stand in the order of the keys.
KERNEL(256) sort_scatter(u32* to_keys, u32* to_rows, const i64* tokens, const u32* keys, const u32* rows, const u32* starts, int shift, int N) {
    SHARED(u32, seen, kWarps * kDigits);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (int i = threadIdx.x; i < kWarps * kDigits; i += blockDim.x) seen[i] = 0;
    __syncthreads();
    const int begin = blockIdx.x * kBlock + warp * kWarp * kRounds;
    u32 key[kRounds], rank[kRounds];
#pragma unroll
    for (int round = 0; round < kRounds; round++) {
        const int i = begin + round * kWarp + lane;
        key[round] = i < N ? key_at(tokens, keys, i) : kAll;
        const u32 digit = key[round] >> shift & 255u;
        u32 same = __ballot_sync(kAll, i < N);
#pragma unroll
        for (int bit = 0; bit < 8; bit++) {
            const u32 set = __ballot_sync(kAll, digit >> bit & 1u);
            same &= digit >> bit & 1u ? set : ~set;
        }
        const u32 before = seen[warp * kDigits + digit];
        rank[round] = before + __popc(same & ((1u << lane) - 1u));
        __syncwarp();
        if (i < N && (same >> lane) == 1u) seen[warp * kDigits + digit] = before + __popc(same);  // the last of them
        __syncwarp();
    }
    __syncthreads();
    u32 start = starts[static_cast<i64>(threadIdx.x) * gridDim.x + blockIdx.x];
    for (int each = 0; each < kWarps; each++) {
        const u32 count = seen[each * kDigits + threadIdx.x];
        seen[each * kDigits + threadIdx.x] = start;
        start += count;
    }
    __syncthreads();
#pragma unroll
    for (int round = 0; round < kRounds; round++) {
        const int i = begin + round * kWarp + lane;
        if (i >= N) continue;
        const u32 to = seen[warp * kDigits + (key[round] >> shift & 255u)] + rank[round];
        to_keys[to] = key[round];
        to_rows[to] = rows ? rows[i] : static_cast<u32>(i);
    }
}
