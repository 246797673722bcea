// Layer norm and RMS norm, forward and backward, each with the residual stream fused in.
//
// Shapes: N rows, C columns; x, mean, rstd, weight, bias and their gradients float32; T (out, branch, dout) float32
// or bf16. A warp takes a row at a time. Source: Ba et al. 2016, eq. 3; Zhang & Sennrich 2019, eq. 4; backward as in
// kernels/reference.py.
#include "device.cuh"

constexpr int kWide = 4;                 // columns per lane and access
constexpr int kStep = kWarp * kWide;     // columns per warp and access
constexpr float kEpsilon = 1e-5f;

// out = norm(x + branch) · weight + bias; the sum goes to `sum`, which may be x. branch, sum, mean and bias may be
// null. The row is staged in shared memory, so it is read once.
template <typename T, bool CENTRED>
DEVICE void norm_forward(T* out, float* mean, float* rstd, float* sum, const float* x, const T* branch, const float* weight, const float* bias, int N, int C) {
    DYNAMIC_SHARED(float, stage);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
    const i64 row = static_cast<i64>(blockIdx.x) * warps + warp;
    if (row >= N) return;
    float* const line = stage + static_cast<i64>(warp) * ((C + kWide - 1) / kWide * kWide);
    float total = 0.0f;
    for (int c = lane * kWide; c < C; c += kStep) {
        float value[kWide];
        load(value, x + row * C + c, C - c);
        if (branch) {
            float other[kWide];
            load(other, branch + row * C + c, C - c);
#pragma unroll
            for (int i = 0; i < kWide; i++) value[i] += other[i];
            store(sum + row * C + c, value, C - c);
        }
        store(line + c, value, kWide);
#pragma unroll
        for (int i = 0; i < kWide; i++) total += value[i];
    }
    const float middle = CENTRED ? warp_sum(total) / C : 0.0f;
    float spread = 0.0f;
    for (int c = lane * kWide; c < C; c += kStep)
#pragma unroll
        for (int i = 0; i < kWide; i++) {
            const float off = c + i < C ? line[c + i] - middle : 0.0f;
            spread += off * off;
        }
    const float scale = rsqrtf(warp_sum(spread) / C + kEpsilon);
    if (lane == 0) {
        if (CENTRED) mean[row] = middle;
        rstd[row] = scale;
    }
    for (int c = lane * kWide; c < C; c += kStep) {
        float value[kWide], by[kWide], shift[kWide] = {};
        load(value, line + c, kWide);
        load(by, weight + c, C - c);
        if (CENTRED) load(shift, bias + c, C - c);
#pragma unroll
        for (int i = 0; i < kWide; i++) value[i] = (value[i] - middle) * scale * by[i] + shift[i];
        store(out + row * C + c, value, C - c);
    }
}

// dx (written, or added to where `add`) and this block's share of dweight and dbias, in partial (blocks, 2, C).
// With n = (x - mean) · rstd and g = dout · weight:  dx = rstd · (g - mean(g) - n · mean(g · n)).
// Each warp gathers its rows' shares in shared memory of its own; the block then adds them in the order of warps.
template <typename T, bool CENTRED>
DEVICE void norm_backward(float* dx, float* partial, const T* dout, const float* x, const float* weight, const float* mean, const float* rstd, int add, int N, int C) {
    DYNAMIC_SHARED(float, gathered);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
    const int wide = (C + kWide - 1) / kWide * kWide;
    constexpr int kSums = CENTRED ? 2 : 1;
    float* const dweight = gathered + static_cast<i64>(warp) * kSums * wide;
    float* const dbias = dweight + wide;
    for (int c = lane * kWide; c < wide; c += kStep) {
        const float none[kWide] = {};
        store(dweight + c, none, kWide);
        if (CENTRED) store(dbias + c, none, kWide);
    }
    for (i64 row = static_cast<i64>(blockIdx.x) * warps + warp; row < N; row += static_cast<i64>(gridDim.x) * warps) {
        const float middle = CENTRED ? mean[row] : 0.0f, scale = rstd[row];
        float along = 0.0f, total = 0.0f;
        for (int c = lane * kWide; c < C; c += kStep) {
            float value[kWide], slope[kWide], by[kWide], sums[kWide];
            load(value, x + row * C + c, C - c);
            load(slope, dout + row * C + c, C - c);
            load(by, weight + c, C - c);
#pragma unroll
            for (int i = 0; i < kWide; i++) {
                value[i] = (value[i] - middle) * scale;
                along += slope[i] * by[i] * value[i];
                if (CENTRED) total += slope[i] * by[i];
            }
            load(sums, dweight + c, kWide);
#pragma unroll
            for (int i = 0; i < kWide; i++) sums[i] += slope[i] * value[i];
            store(dweight + c, sums, kWide);
            if (CENTRED) {
                load(sums, dbias + c, kWide);
#pragma unroll
                for (int i = 0; i < kWide; i++) sums[i] += slope[i];
                store(dbias + c, sums, kWide);
            }
        }
        along = warp_sum(along) / C;
        if (CENTRED) total = warp_sum(total) / C;
        for (int c = lane * kWide; c < C; c += kStep) {
            float value[kWide], slope[kWide], by[kWide], before[kWide] = {};
            load(value, x + row * C + c, C - c);
            load(slope, dout + row * C + c, C - c);
            load(by, weight + c, C - c);
            if (add) load(before, dx + row * C + c, C - c);
#pragma unroll
            for (int i = 0; i < kWide; i++)
                value[i] = before[i] + scale * (slope[i] * by[i] - total - (value[i] - middle) * scale * along);
            store(dx + row * C + c, value, C - c);
        }
    }
    __syncthreads();
    for (int c = threadIdx.x; c < kSums * C; c += blockDim.x) {
        const int at = c < C ? c : wide + c - C;
        float sum = 0.0f;
        for (int each = 0; each < warps; each++) sum += gathered[static_cast<i64>(each) * kSums * wide + at];
        partial[static_cast<i64>(blockIdx.x) * kSums * C + c] = sum;
    }
}

#define FORWARD(name, T, CENTRED)                                                                                   \
    KERNEL(128)                                                                                                     \
    name(T* out, float* mean, float* rstd, float* sum, const float* x, const T* branch, const float* weight,        \
         const float* bias, int N, int C) {                                                                         \
        norm_forward<T, CENTRED>(out, mean, rstd, sum, x, branch, weight, bias, N, C);                              \
    }
#define BACKWARD(name, T, CENTRED)                                                                                  \
    KERNEL(128)                                                                                                     \
    name(float* dx, float* partial, const T* dout, const float* x, const float* weight, const float* mean,          \
         const float* rstd, int add, int N, int C) {                                                                \
        norm_backward<T, CENTRED>(dx, partial, dout, x, weight, mean, rstd, add, N, C);                             \
    }

FORWARD(layernorm_forward_bf16, bf16, true)
FORWARD(layernorm_forward_fp32, float, true)
FORWARD(rmsnorm_forward_bf16, bf16, false)
FORWARD(rmsnorm_forward_fp32, float, false)
BACKWARD(layernorm_backward_bf16, bf16, true)
BACKWARD(layernorm_backward_fp32, float, true)
BACKWARD(rmsnorm_backward_bf16, bf16, false)
BACKWARD(rmsnorm_backward_fp32, float, false)

// Adds the sums of `partial` (parts, columns) over its parts, in their order, to first (its first `split` columns)
// and second (the rest). A warp takes 32 neighbouring columns and an eighth of the parts.
KERNEL(256) column_sums(float* first, float* second, const float* partial, int parts, int columns, int split) {
    SHARED(float, each, 256);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
    const int column = blockIdx.x * kWarp + lane;
    float sum = 0.0f;
    if (column < columns)
        for (int part = warp; part < parts; part += warps) sum += partial[static_cast<i64>(part) * columns + column];
    each[threadIdx.x] = sum;
    __syncthreads();
    if (warp != 0 || column >= columns) return;
    sum = 0.0f;
    for (int other = 0; other < warps; other++) sum += each[other * kWarp + lane];
    float* const to = column < split ? first + column : second + (column - split);
    *to += sum;
}
