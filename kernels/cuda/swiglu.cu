// SwiGLU: out (N, F) = silu(gate) · up, x (N, 2·F) holding gate and up side by side; with the bias of the layer before.
//
// Source: Shazeer 2020, eq. 5. T is float32 or bf16; bias (2·F,) float32.
#include "rows.cuh"

constexpr int kWide = 8;

// With a bias, x + bias goes to `wide`, which may be x; without, nothing does.
template <typename T>
DEVICE void forward(T* out, T* wide, const T* x, const float* bias, int N, int F) {
    const Place at = place_in_rows(F, kWide);
    if (at.row >= N) return;
    const i64 from = at.row * 2 * F + at.column;
    const int left = F - at.column;
    float gate[kWide], up[kWide];
    load(gate, x + from, left);
    load(up, x + from + F, left);
    if (bias) {
        float more[kWide];
        load(more, bias + at.column, left);
#pragma unroll
        for (int i = 0; i < kWide; i++) gate[i] = widen(narrow<T>(gate[i] + more[i]));
        load(more, bias + F + at.column, left);
#pragma unroll
        for (int i = 0; i < kWide; i++) up[i] = widen(narrow<T>(up[i] + more[i]));
        store(wide + from, gate, left);
        store(wide + from + F, up, left);
    }
#pragma unroll
    for (int i = 0; i < kWide; i++) gate[i] *= sigmoid(gate[i]) * up[i];
    store(out + at.row * F + at.column, gate, left);
}

// dup = dout·silu(gate);  dgate = dout·up·s·(1 + gate·(1 - s)), s the sigmoid of gate.
template <typename T>
DEVICE void backward(T* dx, const T* dout, const T* x, int N, int F) {
    const Place at = place_in_rows(F, kWide);
    if (at.row >= N) return;
    const i64 from = at.row * 2 * F + at.column;
    const int left = F - at.column;
    float gate[kWide], up[kWide], slope[kWide];
    load(gate, x + from, left);
    load(up, x + from + F, left);
    load(slope, dout + at.row * F + at.column, left);
#pragma unroll
    for (int i = 0; i < kWide; i++) {
        const float s = sigmoid(gate[i]), a = gate[i];
        gate[i] = slope[i] * up[i] * s * (1.0f + a * (1.0f - s));
        up[i] = slope[i] * a * s;
    }
    store(dx + from, gate, left);
    store(dx + from + F, up, left);
}

KERNEL(256) swiglu_forward_bf16(bf16* out, bf16* wide, const bf16* x, const float* bias, int N, int F) { forward(out, wide, x, bias, N, F); }
KERNEL(256) swiglu_forward_fp32(float* out, float* wide, const float* x, const float* bias, int N, int F) { forward(out, wide, x, bias, N, F); }
KERNEL(256) swiglu_backward_bf16(bf16* dx, const bf16* dout, const bf16* x, int N, int F) { backward(dx, dout, x, N, F); }
KERNEL(256) swiglu_backward_fp32(float* dx, const float* dout, const float* x, int N, int F) { backward(dx, dout, x, N, F); }
