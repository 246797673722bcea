// AdamW on flat float32 buffers, with a bf16 copy of the parameters for the matrix products.
//
// Source: Loshchilov & Hutter 2019, algorithm 2, as kernels/reference.py has it. What changes from step to step lies
// in device memory, so that a recorded graph of launches can be replayed:
//   rates  float32 (9,): η/(1-β₁ᵗ), 1/(1-β₂ᵗ), β₁, 1-β₁, β₂, 1-β₂, ε, 1-η·λ, gradient scale
//   place  uint32 (4,): key low, key high, step, first row (as dropout.cu takes it)
#include "philox.cuh"

constexpr int kWide = 4;
constexpr u32 kRoundingStream = 0xffffffffu;  // no dropout site has this number

// A float32 cut to bf16 after 16 random bits were added below: up or down, in proportion to what is lost.
// What is not finite, or would grow beyond the finite, is rounded to nearest as ever.
DEVICE float by_chance(float value, u32 random) {
    const u32 raised = __float_as_uint(value) + (random & 0xffffu);
    const bool finite = (raised & 0x7f800000u) != 0x7f800000u && (__float_as_uint(value) & 0x7f800000u) != 0x7f800000u;
    return finite ? __uint_as_float(raised & 0xffff0000u) : value;
}

// `copy` may be null. Element i is rounded by word i mod 4 of the counter (⌊i/4⌋ low, high, all ones, step).
template <bool BY_CHANCE>
DEVICE void adamw(float* parameters, float* first, float* second, bf16* copy, const float* gradients, const float* rates, const u32* place, i64 count) {
    const float rate = rates[0], spread = rates[1], beta1 = rates[2], rest1 = rates[3], beta2 = rates[4];
    const float rest2 = rates[5], epsilon = rates[6], keep = rates[7], gradient_scale = rates[8];
    const i64 at = (static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x) * kWide, left = count - at;
    if (left <= 0) return;
    float p[kWide], m[kWide], v[kWide], g[kWide];
    load(p, parameters + at, left);
    load(m, first + at, left);
    load(v, second + at, left);
    load(g, gradients + at, left);
#pragma unroll
    for (int i = 0; i < kWide; i++) {
        g[i] *= gradient_scale;
        m[i] = beta1 * m[i] + rest1 * g[i];
        v[i] = beta2 * v[i] + rest2 * g[i] * g[i];
        p[i] = keep * p[i] - rate * m[i] / (sqrtf(v[i] * spread) + epsilon);
    }
    store(parameters + at, p, left);
    store(first + at, m, left);
    store(second + at, v, left);
    if (!copy) return;
    if (BY_CHANCE) {
        const u64 group = static_cast<u64>(at) / kWide;
        const Four random = philox(static_cast<u32>(group), static_cast<u32>(group >> 32), kRoundingStream, place[2], place[0], place[1]);
#pragma unroll
        for (int i = 0; i < kWide; i++) p[i] = by_chance(p[i], random.word[i]);
    }
    store(copy + at, p, left);
}

KERNEL(256) adamw_nearest(float* parameters, float* first, float* second, bf16* copy, const float* gradients, const float* rates, const u32* place, i64 count) {
    adamw<false>(parameters, first, second, copy, gradients, rates, place, count);
}
KERNEL(256) adamw_stochastic(float* parameters, float* first, float* second, bf16* copy, const float* gradients, const float* rates, const u32* place, i64 count) {
    adamw<true>(parameters, first, second, copy, gradients, rates, place, count);
}
