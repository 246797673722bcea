// Vectors of float, as wide as the instruction set at hand, by GCC's vector extension: the same source is compiled
// once per instruction set, in a namespace of its own (KERNELS_ISA), with that set's flags.
//
// Trap: nothing here or in the ops may call an inline function of the C++ library. The linker keeps one copy of such
// a function for all translation units, and could keep the one that was compiled for AVX-512.
//
// bf16: the upper half of a float32, rounded to nearest even; NaN stays NaN.
#pragma once

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define KERNELS_WIDTH 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define KERNELS_WIDTH 8
#else
#define KERNELS_WIDTH 4
#endif

#if defined(__AVX512BF16__)
#define KERNELS_BF16_DOT 1
#else
#define KERNELS_BF16_DOT 0
#endif

#define INLINE static inline __attribute__((always_inline))

namespace KERNELS_ISA {

constexpr long W = KERNELS_WIDTH;
typedef uint16_t half;  // bf16 bits

typedef float Vf __attribute__((vector_size(4 * KERNELS_WIDTH)));
typedef int32_t Vi __attribute__((vector_size(4 * KERNELS_WIDTH)));
typedef uint32_t Vu __attribute__((vector_size(4 * KERNELS_WIDTH)));
typedef uint16_t Vh __attribute__((vector_size(2 * KERNELS_WIDTH)));
typedef Vf VfAt __attribute__((aligned(4), may_alias));
typedef Vu VuAt __attribute__((aligned(4), may_alias));
typedef Vh VhAt __attribute__((aligned(2), may_alias));

INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE long most(long a, long b) { return a > b ? a : b; }
INLINE long ceil_div(long a, long b) { return (a + b - 1) / b; }
INLINE long round_up(long a, long b) { return ceil_div(a, b) * b; }

INLINE Vf load(const float* p) { return *reinterpret_cast<const VfAt*>(p); }
INLINE void store(float* p, Vf v) { *reinterpret_cast<VfAt*>(p) = v; }
INLINE Vf splat(float x) { return x - Vf{}; }
INLINE Vf pick(Vi mask, Vf yes, Vf no) { return (Vf)((mask & (Vi)yes) | (~mask & (Vi)no)); }
INLINE Vi pick_index(Vi mask, Vi yes, Vi no) { return (mask & yes) | (~mask & no); }
INLINE Vf larger(Vf a, Vf b) { return a > b ? a : b; }

INLINE Vf widen(Vh h) { return (Vf)(__builtin_convertvector(h, Vu) << 16); }
INLINE Vu round_bits(Vf x) {  // bf16 bits in the low half of each lane
    const Vu u = (Vu)x;
    const Vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return x == x ? rounded : (Vu)((u >> 16) | 0x40u);
}
INLINE Vh narrow(Vf x) {
#if KERNELS_BF16_DOT
    return (Vh)_mm512_cvtneps_pbh((__m512)x);
#else
    return __builtin_convertvector(round_bits(x), Vh);
#endif
}
INLINE Vf load(const half* p) { return widen(*reinterpret_cast<const VhAt*>(p)); }
INLINE void store(half* p, Vf v) { *reinterpret_cast<VhAt*>(p) = narrow(v); }

INLINE float widen_one(half h) {
    const uint32_t u = static_cast<uint32_t>(h) << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}
INLINE half narrow_one(float x) { return narrow(splat(x))[0]; }
INLINE float get(const float* p) { return *p; }
INLINE float get(const half* p) { return widen_one(*p); }
INLINE void put(float* p, float x) { *p = x; }
INLINE void put(half* p, float x) { *p = narrow_one(x); }

// The first n < W elements; the rest of a loaded vector is zero.
template <typename T>
INLINE Vf load_part(const T* p, long n) {
    T lanes[W] = {};
    for (long i = 0; i < n; i++) lanes[i] = p[i];
    return load(lanes);
}
template <typename T>
INLINE void store_part(T* p, Vf v, long n) {
    T lanes[W];
    store(lanes, v);
    for (long i = 0; i < n; i++) p[i] = lanes[i];
}
template <typename T>
INLINE Vf load_up_to(const T* p, long n) {
    return n >= W ? load(p) : load_part(p, n);
}
template <typename T>
INLINE void store_up_to(T* p, Vf v, long n) {
    if (n >= W) store(p, v);
    else store_part(p, v, n);
}

INLINE Vi lane_numbers() {
    Vi lanes{};
    for (int i = 0; i < W; i++) lanes[i] = i;
    return lanes;
}
// v where a lane's number is below n, else zero.
INLINE Vf first_lanes(Vf v, long n) { return pick(lane_numbers() < (int)(n < 0 ? 0 : n), v, Vf{}); }

// Sum and largest over the lanes, in a fixed order of halves, so that they are the same bits in every run.
INLINE float sum(Vf v) {
    for (int step = W / 2; step > 0; step /= 2) v += __builtin_shuffle(v, lane_numbers() ^ step);
    return v[0];
}
INLINE float peak(Vf v) {
    for (int step = W / 2; step > 0; step /= 2) v = larger(v, __builtin_shuffle(v, lane_numbers() ^ step));
    return v[0];
}

// Two vectors of float as bf16 pairs: lane i of `even` in the low half of lane i, of `odd` in the high half.
INLINE Vu pairs(Vf even, Vf odd) {
#if KERNELS_BF16_DOT
    const Vu low = __builtin_convertvector(narrow(even), Vu), high = __builtin_convertvector(narrow(odd), Vu);
    return low | high << 16;
#else
    return round_bits(even) | round_bits(odd) << 16;
#endif
}

// Rows become columns (Eklundh 1972): each step exchanges blocks of twice the size.
INLINE void transpose(Vf (&rows)[W]) {
    const Vi lanes = lane_numbers();
    for (int step = 1; step < W; step *= 2) {
        const Vi upper = (lanes & step) != 0;
        const Vi stay = pick_index(upper, (lanes ^ step) + (int)W, lanes), go = pick_index(upper, lanes + (int)W, lanes ^ step);
        for (int i = 0; i < W; i++) {
            if (i & step) continue;
            const Vf a = rows[i], b = rows[i | step];
            rows[i] = __builtin_shuffle(a, b, stay);
            rows[i | step] = __builtin_shuffle(a, b, go);
        }
    }
}

INLINE Vf root(Vf v) {
#if defined(__AVX512F__)
    return (Vf)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX2__)
    return (Vf)_mm256_sqrt_ps((__m256)v);
#else
    for (long i = 0; i < W; i++) v[i] = __builtin_sqrtf(v[i]);
    return v;
#endif
}

// e^x to within 2 units in the last place: x = n·ln2 + r, |r| ≤ ln2/2, and Taylor's polynomial of degree 7 (error
// 5e-9). Below -87.3 it is 1.2e-38, above 88.4 infinity; NaN stays NaN.
INLINE Vf exponential(Vf x) {
    x = x < -87.3f ? splat(-87.3f) : x;
    x = x > 89.0f ? splat(89.0f) : x;
    const float shift = 12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
    const Vf moved = x * 1.44269504088896341f + shift;
    const Vf n = moved - shift;
    const Vf r = (x - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
    Vf p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const Vi power = ((Vi)moved - 0x4b400000 + 127) << 23;
    return p * (Vf)power;
}

// GELU in its tanh form is x · s with s = 1/(1 + e^(-2u)), u = √(2/π)·(x + 0.044715·x³).
constexpr float kGeluTwice = 1.5957691216057308f;  // 2·√(2/π)
constexpr float kGeluCubic = 0.044715f;

INLINE Vf sigmoid(Vf x) { return 1.0f / (1.0f + exponential(-x)); }
INLINE Vf gelu(Vf x) { return x * sigmoid(kGeluTwice * x * (1.0f + kGeluCubic * x * x)); }
INLINE Vf gelu_slope(Vf x) {
    const Vf s = sigmoid(kGeluTwice * x * (1.0f + kGeluCubic * x * x));
    return s + x * s * (1.0f - s) * (kGeluTwice * (1.0f + 3.0f * kGeluCubic * x * x));
}

}  // namespace KERNELS_ISA
