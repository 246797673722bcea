// Softmax and cross entropy over rows of logits (N, V): losses in nats, and the gradient in the logits' place.
//
// A block takes a row. T is float32 or bf16; losses and lse (N,) float32; targets (N,) int64 in [0, V).
#include "device.cuh"

constexpr int kWide = 8;
constexpr int kWarps = 8;
constexpr float kLowest = -3.402823466e38f;

// A row is gone through in steps that are aligned when the array is, whatever V: the first and the last step may be
// cut. `at` may lie before the row by up to W - 1 elements. The steps follow from the shape, not from the address.
DEVICE int lead(int V) { return static_cast<int>(static_cast<i64>(blockIdx.x) * V % kWide); }
template <typename T>
DEVICE void load_within(float (&to)[kWide], const T* row, int at, int V, float none) {
    if (at >= 0 && at + kWide <= V) {
        load(to, row + at, kWide);
    } else {
#pragma unroll
        for (int i = 0; i < kWide; i++) to[i] = at + i >= 0 && at + i < V ? widen(row[at + i]) : none;
    }
}
template <typename T>
DEVICE void store_within(T* row, const float (&from)[kWide], int at, int V) {
    if (at >= 0 && at + kWide <= V) {
        store(row + at, from, kWide);
    } else {
#pragma unroll
        for (int i = 0; i < kWide; i++)
            if (at + i >= 0 && at + i < V) row[at + i] = narrow<T>(from[i]);
    }
}

struct Peak {
    float most, sum;  // sum of exp(x - most)
};

DEVICE Peak joined(Peak a, Peak b) {
    const float most = fmaxf(a.most, b.most);
    return Peak{most, a.sum * exp2_fast(kLog2E * (a.most - most)) + b.sum * exp2_fast(kLog2E * (b.most - most))};
}

// log Σ exp of a row, known to every thread.
template <typename T>
DEVICE float log_sum(const T* row, int V) {
    SHARED(float, mosts, kWarps);
    SHARED(float, sums, kWarps);
    Peak peak{kLowest, 0.0f};
    for (int at = static_cast<int>(threadIdx.x) * kWide - lead(V); at < V; at += blockDim.x * kWide) {
        float value[kWide];
        load_within(value, row, at, V, kLowest);
        float most = peak.most;
#pragma unroll
        for (int i = 0; i < kWide; i++) most = fmaxf(most, value[i]);
        float sum = peak.sum * exp2_fast(kLog2E * (peak.most - most));
#pragma unroll
        for (int i = 0; i < kWide; i++) sum += at + i >= 0 && at + i < V ? exp2_fast(kLog2E * (value[i] - most)) : 0.0f;
        peak = Peak{most, sum};
    }
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
        peak = joined(peak, Peak{__shfl_xor_sync(kAll, peak.most, offset), __shfl_xor_sync(kAll, peak.sum, offset)});
    if (threadIdx.x % kWarp == 0) {
        mosts[threadIdx.x / kWarp] = peak.most;
        sums[threadIdx.x / kWarp] = peak.sum;
    }
    __syncthreads();
    peak = Peak{mosts[0], sums[0]};
    for (int warp = 1; warp < kWarps; warp++) peak = joined(peak, Peak{mosts[warp], sums[warp]});
    return peak.most + logf(peak.sum);
}

// scale · (softmax - onehot), which may go where the logits are: each thread writes only what it alone has read.
template <typename T>
DEVICE void slopes(T* to, const T* row, float lse, int target, float scale, int V) {
    for (int at = static_cast<int>(threadIdx.x) * kWide - lead(V); at < V; at += blockDim.x * kWide) {
        float value[kWide];
        load_within(value, row, at, V, 0.0f);
#pragma unroll
        for (int i = 0; i < kWide; i++)
            value[i] = scale * (exp2_fast(kLog2E * (value[i] - lse)) - (at + i == target ? 1.0f : 0.0f));
        store_within(to, value, at, V);
    }
}

template <typename T>
DEVICE void forward(float* losses, float* lse, const T* logits, const i64* targets, int V) {
    const T* const row = logits + static_cast<i64>(blockIdx.x) * V;
    const float sum = log_sum(row, V);
    if (threadIdx.x) return;
    lse[blockIdx.x] = sum;
    losses[blockIdx.x] = sum - widen(row[targets[blockIdx.x]]);
}

template <typename T>
DEVICE void backward(T* dlogits, const T* logits, const float* lse, const i64* targets, float scale, int V) {
    const i64 at = static_cast<i64>(blockIdx.x) * V;
    slopes(dlogits + at, logits + at, lse[blockIdx.x], static_cast<int>(targets[blockIdx.x]), scale, V);
}

// Both at once: what was logits when it begins is their gradient when it ends. The second reading comes from a cache.
template <typename T>
DEVICE void both(float* losses, float* lse, T* logits, const i64* targets, float scale, int V) {
    T* const row = logits + static_cast<i64>(blockIdx.x) * V;
    const int target = static_cast<int>(targets[blockIdx.x]);
    const float chosen = widen(row[target]);
    const float sum = log_sum(row, V);  // its barrier is between all readings of `chosen` and the first writing
    if (threadIdx.x == 0) {
        lse[blockIdx.x] = sum;
        losses[blockIdx.x] = sum - chosen;
    }
    slopes(row, row, sum, target, scale, V);
}

#define KERNELS_OF(T, name)                                                                                           \
    KERNEL(256) softmax_cross_entropy_forward_##name(float* losses, float* lse, const T* logits, const i64* targets, int V) { \
        forward(losses, lse, logits, targets, V);                                                                     \
    }                                                                                                                 \
    KERNEL(256) softmax_cross_entropy_backward_##name(T* dlogits, const T* logits, const float* lse, const i64* targets, float scale, int V) { \
        backward(dlogits, logits, lse, targets, scale, V);                                                            \
    }                                                                                                                 \
    KERNEL(256) softmax_cross_entropy_both_##name(float* losses, float* lse, T* logits, const i64* targets, float scale, int V) { \
        both(losses, lse, logits, targets, scale, V);                                                                 \
    }

KERNELS_OF(bf16, bf16)
KERNELS_OF(float, fp32)
