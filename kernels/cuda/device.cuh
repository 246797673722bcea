// What every kernel stands on: types, bf16, vector access, sums over a warp and a block.
//
// One source, two compilers. NVRTC makes cubins of it; with CUDA_SHIM defined, g++ makes a CPU library that runs
// the same lines thread by thread (tests/kernels/cuda/shim). Nothing of the CUDA toolkit's headers is included, so
// the compiler is all that a build needs. Whatever differs between the two stands in this file or in tensor.cuh.
//
// Every sum here has one order, fixed by the shape alone: two runs give equal bits.
#pragma once

#ifdef CUDA_SHIM
#include "shim.h"
#else
#define DEVICE __device__ __forceinline__
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
// Shared memory of a size known at compile time.
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
// Shared memory of the size that the launch asks for.
#define DYNAMIC_SHARED(type, name)                                 \
    extern __shared__ __align__(128) unsigned char shared_bytes[]; \
    type* const name = reinterpret_cast<type*>(shared_bytes)
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

constexpr int kWarp = 32;
constexpr u32 kAll = 0xffffffffu;

struct bf16 {
    u16 bits;
};

DEVICE float widen(float value) { return value; }
DEVICE float widen(bf16 value) { return __uint_as_float(static_cast<u32>(value.bits) << 16); }

// Two floats rounded to nearest even, the first in the lower half.
DEVICE u32 narrow_two(float low, float high) {
#ifdef CUDA_SHIM
    return shim::narrow(low) | static_cast<u32>(shim::narrow(high)) << 16;
#else
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#endif
}

template <typename T>
DEVICE T narrow(float value);
template <>
DEVICE float narrow<float>(float value) {
    return value;
}
template <>
DEVICE bf16 narrow<bf16>(float value) {
    return bf16{static_cast<u16>(narrow_two(value, 0.0f))};
}

// --- vector access: W neighbours at once where address and count allow it, one by one where not -------------

template <int BYTES>
struct Words;
template <>
struct __align__(16) Words<16> {
    u32 word[4];
};
template <>
struct __align__(8) Words<8> {
    u32 word[2];
};

template <typename T, int W>
struct Vector {
    static constexpr int kBytes = W * sizeof(T) > 16 ? 16 : W * sizeof(T);  // of one access
    static constexpr int kParts = W * sizeof(T) / kBytes;
    static constexpr int kEach = W / kParts;
};

template <typename T>
DEVICE bool aligned(const T* address, int bytes) {
    return (reinterpret_cast<u64>(address) & (bytes - 1)) == 0;
}

// Up to W elements from `from`, zeros after the `left`-th.
template <int W, typename T>
DEVICE void load(float (&to)[W], const T* from, i64 left) {
    using V = Vector<T, W>;
    if (left >= W && aligned(from, V::kBytes)) {
#pragma unroll
        for (int part = 0; part < V::kParts; part++) {
            union {
                Words<V::kBytes> words;
                T each[V::kEach];
            } both;
            both.words = reinterpret_cast<const Words<V::kBytes>*>(from)[part];
#pragma unroll
            for (int i = 0; i < V::kEach; i++) to[part * V::kEach + i] = widen(both.each[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < W; i++) to[i] = i < left ? widen(from[i]) : 0.0f;
    }
}

// The first `left` of W elements, rounded to nearest even where T is bf16.
template <int W, typename T>
DEVICE void store(T* to, const float (&from)[W], i64 left) {
    using V = Vector<T, W>;
    if (left >= W && aligned(to, V::kBytes)) {
#pragma unroll
        for (int part = 0; part < V::kParts; part++) {
            union {
                Words<V::kBytes> words;
                T each[V::kEach];
            } both;
#pragma unroll
            for (int i = 0; i < V::kEach; i++) both.each[i] = narrow<T>(from[part * V::kEach + i]);
            reinterpret_cast<Words<V::kBytes>*>(to)[part] = both.words;
        }
    } else {
#pragma unroll
        for (int i = 0; i < W; i++)
            if (i < left) to[i] = narrow<T>(from[i]);
    }
}

// --- sums ---------------------------------------------------------------------------------------------------

DEVICE float warp_sum(float value) {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
    return value;
}

DEVICE double warp_sum(double value) {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAll, value, offset);
    return value;
}

DEVICE float warp_max(float value) {
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(kAll, value, offset));
    return value;
}

// --- arithmetic whose approximation on a device is good to 2^-21 ------------------------------------------------

constexpr float kLog2E = 1.44269504f;

DEVICE float infinity() { return __uint_as_float(0x7f800000u); }

DEVICE float exp2_fast(float value) {
#ifdef CUDA_SHIM
    return exp2f(value);
#else
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
#endif
}

// Zero where the divisor is infinite or nearly so.
DEVICE float divide_fast(float dividend, float divisor) {
#ifdef CUDA_SHIM
    return dividend / divisor;
#else
    return __fdividef(dividend, divisor);
#endif
}

DEVICE float sigmoid(float value) { return divide_fast(1.0f, 1.0f + exp2_fast(-kLog2E * value)); }
