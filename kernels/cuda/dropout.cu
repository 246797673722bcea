// Dropout whose mask follows from an element's place alone (Srivastava et al. 2014), as kernels/reference.py has it.
//
// Element (n, c) of (N, C) is kept when word c mod 4 of Philox at (⌊c/4⌋, first row + n, stream, step) is at least
// `below`. What changes from step to step lies in device memory: place uint32 (4,): key low, key high, step, first row.
#include "philox.cuh"
#include "rows.cuh"

constexpr int kWide = 4;

template <typename T>
DEVICE void dropout(T* out, const T* x, const u32* place, u32 stream, u32 below, float scale, int N, int C) {
    const Place at = place_in_rows(C, kWide);
    if (at.row >= N) return;
    const i64 from = at.row * C + at.column;
    const Four random = philox(at.column / kWide, place[3] + static_cast<u32>(at.row), stream, place[2], place[0], place[1]);
    float value[kWide];
    load(value, x + from, C - at.column);
#pragma unroll
    for (int i = 0; i < kWide; i++) value[i] = random.word[i] >= below ? value[i] * scale : 0.0f;
    store(out + from, value, C - at.column);
}

KERNEL(256) dropout_bf16(bf16* out, const bf16* x, const u32* place, u32 stream, u32 below, float scale, int N, int C) { dropout(out, x, place, stream, below, scale, N, C); }
KERNEL(256) dropout_fp32(float* out, const float* x, const u32* place, u32 stream, u32 below, float scale, int N, int C) { dropout(out, x, place, stream, below, scale, N, C); }
