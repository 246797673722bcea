// GELU, tanh form, with the bias of the layer before it.
//
// Source: Hendrycks & Gimpel 2016, section 2: x/2 · (1 + tanh(u)) = x · sigmoid(2u), u = √(2/π)·(x + 0.044715·x³).
// T is float32 or bf16; bias float32.
#include "rows.cuh"

constexpr int kWide = 8;
constexpr float kSlope = 0.7978845608f;
constexpr float kCubic = 0.044715f;

DEVICE float gate(float x) { return sigmoid(2.0f * kSlope * (x + kCubic * x * x * x)); }

// out = gelu(x + bias); the sum goes to `wide`, which may be x. Without bias, nothing is written to wide.
template <typename T>
DEVICE void forward(T* out, T* wide, const T* x, const float* bias, i64 count, int F) {
    const i64 at = place(kWide), left = count - at;
    if (left <= 0) return;
    float value[kWide];
    load(value, x + at, left);
    if (bias) {
        add_row(value, bias, at, F);
#pragma unroll
        for (int i = 0; i < kWide; i++) value[i] = widen(narrow<T>(value[i]));  // the backward sees what is stored
        store(wide + at, value, left);
    }
#pragma unroll
    for (int i = 0; i < kWide; i++) value[i] *= gate(value[i]);
    store(out + at, value, left);
}

// dx = dout · (s + 2·x·s·(1-s)·u'), s the sigmoid of the forward; dx may be dout.
template <typename T>
DEVICE void backward(T* dx, const T* dout, const T* x, i64 count) {
    const i64 at = place(kWide), left = count - at;
    if (left <= 0) return;
    float value[kWide], slope[kWide];
    load(value, x + at, left);
    load(slope, dout + at, left);
#pragma unroll
    for (int i = 0; i < kWide; i++) {
        const float s = gate(value[i]), bend = s * (1.0f - s);
        // Where the bend is nothing, x² may be too much for a float.
        const float rise = bend > 0.0f ? 2.0f * value[i] * bend * kSlope * (1.0f + 3.0f * kCubic * value[i] * value[i]) : 0.0f;
        slope[i] *= s + rise;
    }
    store(dx + at, slope, left);
}

KERNEL(256) gelu_forward_bf16(bf16* out, bf16* wide, const bf16* x, const float* bias, i64 count, int F) { forward(out, wide, x, bias, count, F); }
KERNEL(256) gelu_forward_fp32(float* out, float* wide, const float* x, const float* bias, i64 count, int F) { forward(out, wide, x, bias, count, F); }
KERNEL(256) gelu_backward_bf16(bf16* dx, const bf16* dout, const bf16* x, i64 count) { backward(dx, dout, x, count); }
KERNEL(256) gelu_backward_fp32(float* dx, const float* dout, const float* x, i64 count) { backward(dx, dout, x, count); }
