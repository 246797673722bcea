// Euclidean length of a flat float32 buffer, in two stages, summed in float64.
#include "device.cuh"

constexpr int kWide = 8;
constexpr int kWarps = 8;

// Sum of one value per thread, known to thread 0.
DEVICE double block_sum(double value) {
    SHARED(double, sums, kWarps);
    value = warp_sum(value);
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = 0.0;
    for (int warp = 0; warp < kWarps; warp++) value += sums[warp];
    return value;
}

// partial (blocks,) float64: each block's sum of squares.
KERNEL(256) square_sums(double* partial, const float* x, i64 count) {
    double sum = 0.0;
    const i64 stride = static_cast<i64>(gridDim.x) * blockDim.x * kWide;
    for (i64 at = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * kWide; at < count; at += stride) {
        float value[kWide];
        load(value, x + at, count - at);
#pragma unroll
        for (int i = 0; i < kWide; i++) sum += static_cast<double>(value[i]) * value[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// result (1,) float64: the root of the sum of `parts` partial sums, by one block.
KERNEL(256) root_of_sums(double* result, const double* partial, int parts) {
    double sum = 0.0;
    for (int part = threadIdx.x; part < parts; part += blockDim.x) sum += partial[part];
    sum = block_sum(sum);
    if (threadIdx.x == 0) result[0] = sqrt(sum);
}
