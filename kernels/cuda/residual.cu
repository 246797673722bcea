// Sums of the residual stream (float32) and a branch, and the bias of the layer that made the branch.
#include "rows.cuh"

constexpr int kWide = 8;

// out = x + branch + bias, flat; bias (C,) repeats and may be null; out may be x or the branch.
template <typename T>
DEVICE void residual(float* out, const float* x, const T* branch, const float* bias, i64 count, int C) {
    const i64 at = place(kWide), left = count - at;
    if (left <= 0) return;
    float value[kWide], other[kWide];
    load(value, x + at, left);
    load(other, branch + at, left);
    if (bias) add_row(other, bias, at, C);
#pragma unroll
    for (int i = 0; i < kWide; i++) value[i] += other[i];
    store(out + at, value, left);
}

KERNEL(256) residual_bf16(float* out, const float* x, const bf16* branch, const float* bias, i64 count, int C) { residual(out, x, branch, bias, count, C); }
KERNEL(256) residual_fp32(float* out, const float* x, const float* branch, const float* bias, i64 count, int C) { residual(out, x, branch, bias, count, C); }
