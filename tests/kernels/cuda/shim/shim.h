// CUDA's language on a CPU, as far as the kernels use it: one fiber per CUDA thread, one block after another.
//
// Shared memory is poisoned at the start of each block; barriers and warp exchanges are meeting points that a fiber
// waits at; blocks and fibers run in an order drawn from a seed: code that counts on an order gives other bits. A
// meeting that not all attend (a divergent barrier, a lane that has left) is told by name instead of hanging.
// What it cannot show: what is not sequentially consistent on a device, and time.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(bytes) alignas(bytes)
#define DEVICE inline
#define KERNEL(threads) extern "C" void
#define SHARED(type, name, count)                \
    alignas(16) static type name[count];         \
    shim::fresh(name, sizeof(name))
#define DYNAMIC_SHARED(type, name) type* const name = reinterpret_cast<type*>(shim::dynamic_shared())

namespace shim {

struct Index {
    unsigned x, y, z;
};

// What a lane brings to a meeting of its warp, and what it takes home.
struct Lane {
    uint32_t word[12];
};

enum Kind : int { kShuffle, kBallot, kProduct, kMatrixLoad, kWarpBarrier };

using Resolve = void (*)(Lane* brought, Lane* home);

extern Index thread, block, block_size, grid_size;
extern int lane_index;  // of the running fiber

void block_barrier();
Lane& desk();                           // where the running lane puts what it brings
Lane& meet(Kind kind, Resolve resolve);  // waits for the whole warp, returns what is its own
void fresh(void* memory, size_t bytes);  // poisons static shared memory once per block
void* dynamic_shared();

// Multiplication of two 16 by 16 and 16 by 8 tiles as lanes hold them (PTX ISA, mma.m16n8k16 fragments).
void product(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
// Four 8 by 8 tiles of 16 bits from shared memory; each lane brings the address of one row.
void matrix_load(uint32_t (&to)[4], const void* row, bool transposed);

// Copies that only come when they are waited for, and poison until then.
void copy_async(void* to, const void* from, bool there);
void close_copies();
void wait_copies(int left);

inline uint16_t narrow(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (value != value) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

template <typename T>
T shuffle(T value, int source) {
    static_assert(sizeof(T) <= 8, "a lane exchanges at most 8 bytes");
    Lane& mine = desk();
    memcpy(mine.word, &value, sizeof value);
    mine.word[2] = static_cast<uint32_t>(source);
    Lane& home = meet(kShuffle, [](Lane* brought, Lane* taken) {
        for (int lane = 0; lane < 32; lane++) memcpy(taken[lane].word, brought[brought[lane].word[2] & 31].word, 8);
    });
    memcpy(&value, home.word, sizeof value);
    return value;
}

// --- launching: the host's side -------------------------------------------------------------------------------

using Body = void (*)(void** arguments);

// Runs a grid; returns null, or what went wrong.
const char* run(Body body, void** arguments, const unsigned* grid, const unsigned* block, size_t shared, uint64_t seed);

template <typename T>
constexpr char letter() {
    if constexpr (std::is_pointer_v<T>) return 'p';
    if constexpr (std::is_same_v<T, int>) return 'i';
    if constexpr (std::is_same_v<T, long long>) return 'l';
    if constexpr (std::is_same_v<T, unsigned>) return 'u';
    if constexpr (std::is_same_v<T, unsigned long long>) return 'w';
    if constexpr (std::is_same_v<T, float>) return 'f';
    return '?';
}

template <auto kernel>
struct Call;
template <typename... A, void (*kernel)(A...)>
struct Call<kernel> {
    static constexpr char types[] = {letter<A>()..., 0};
    template <size_t... I>
    static void with(void** arguments, std::index_sequence<I...>) {
        kernel(*static_cast<A*>(arguments[I])...);
    }
    static void body(void** arguments) { with(arguments, std::index_sequence_for<A...>{}); }
};

}  // namespace shim

// The way a kernel is reached from ctypes; the build adds one line per kernel.
#define SHIM_EXPORT(name)                                                                                            \
    extern "C" const char* types_##name() { return shim::Call<name>::types; }                                         \
    extern "C" const char* launch_##name(void** arguments, const unsigned* grid, const unsigned* block, size_t bytes, \
                                         uint64_t seed) {                                                             \
        return shim::run(shim::Call<name>::body, arguments, grid, block, bytes, seed);                               \
    }

#define threadIdx shim::thread
#define blockIdx shim::block
#define blockDim shim::block_size
#define gridDim shim::grid_size

static inline void __syncthreads() { shim::block_barrier(); }
static inline void __syncwarp(unsigned = ~0u) {
    shim::meet(shim::kWarpBarrier, [](shim::Lane*, shim::Lane*) {});
}
template <typename T>
static inline T __shfl_sync(unsigned, T value, int source) {
    return shim::shuffle(value, source);
}
template <typename T>
static inline T __shfl_xor_sync(unsigned, T value, int mask) {
    return shim::shuffle(value, shim::lane_index ^ mask);
}

// Which lanes say yes.
static inline uint32_t __ballot_sync(unsigned, int yes) {
    shim::desk().word[0] = yes != 0;
    return shim::meet(shim::kBallot, [](shim::Lane* brought, shim::Lane* taken) {
               uint32_t all = 0;
               for (int lane = 0; lane < 32; lane++) all |= brought[lane].word[0] << lane;
               for (int lane = 0; lane < 32; lane++) taken[lane].word[0] = all;
           }).word[0];
}
// Of integers alone: a sum of floats in the order of arrival would differ from run to run.
static inline uint32_t atomicAdd(uint32_t* sum, uint32_t value) {
    const uint32_t before = *sum;
    *sum += value;
    return before;
}
static inline int __popc(uint32_t bits) { return __builtin_popcount(bits); }

static inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
static inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
static inline float rsqrtf(float value) { return 1.0f / sqrtf(value); }
static inline uint32_t __umulhi(uint32_t a, uint32_t b) { return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32); }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline long long min(long long a, long long b) { return a < b ? a : b; }
