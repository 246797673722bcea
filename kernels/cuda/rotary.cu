// Rotary positions: Q and K of qkv (B, T, 3·C) turned in place by the angle of their position.
//
// In each head, channels j and j + D/2 are the axes of plane j (Su et al. 2021, eq. 34): (a, b) → (a·cos - b·sin,
// a·sin + b·cos), with row t of cosines and sines (≥T, D/2). sign 1 turns forward, -1 back.
#include "rows.cuh"

constexpr int kWide = 4;

template <typename S>
DEVICE void rotary(S* qkv, const float* cosines, const float* sines, float sign, int N, int T, int C, int heads) {
    const int planes = C / heads / 2, each = (planes + kWide - 1) / kWide;
    const Place at = place_in_rows(2 * heads * each, 1);  // the heads of Q, then those of K
    if (at.row >= N) return;
    const int head = at.column / each, plane = at.column % each * kWide, left = planes - plane;
    S* const first = qkv + at.row * 3 * C + static_cast<i64>(head) * 2 * planes + plane;
    S* const second = first + planes;
    const i64 angle = at.row % T * planes + plane;
    float a[kWide], b[kWide], c[kWide], s[kWide];
    load(a, first, left);
    load(b, second, left);
    load(c, cosines + angle, left);
    load(s, sines + angle, left);
#pragma unroll
    for (int i = 0; i < kWide; i++) {
        const float turned = a[i] * c[i] - b[i] * s[i] * sign;
        b[i] = a[i] * s[i] * sign + b[i] * c[i];
        a[i] = turned;
    }
    store(first, a, left);
    store(second, b, left);
}

KERNEL(256) rotary_bf16(bf16* qkv, const float* cosines, const float* sines, float sign, int N, int T, int C, int heads) { rotary(qkv, cosines, sines, sign, N, T, C, heads); }
KERNEL(256) rotary_fp32(float* qkv, const float* cosines, const float* sines, float sign, int N, int T, int C, int heads) { rotary(qkv, cosines, sines, sign, N, T, C, heads); }
