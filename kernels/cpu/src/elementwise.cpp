// Ops that go through their arrays once: GELU, SwiGLU, residual sums, rotary positions, dropout.
#include "ops.h"
#include "vec.h"

namespace KERNELS_ISA {

constexpr long kStrip = 4096;  // elements that one thread takes at a time

template <typename Body>
INLINE void in_strips(Engine* engine, long count, Body body) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long start = 0; start < count; start += kStrip) {
        const long stop = least(count, start + kStrip);
        for (long i = start; i < stop; i += W) body(i, stop - i);
    }
}

template <typename T>
static void gelu_all(Engine* engine, T* out, const T* x, long count) {
    in_strips(engine, count, [=](long i, long n) { store_up_to(out + i, gelu(load_up_to(x + i, n)), n); });
}

template <typename T>
static void gelu_slopes(Engine* engine, T* dx, const T* dout, const T* x, long count) {
    in_strips(engine, count, [=](long i, long n) {
        store_up_to(dx + i, load_up_to(dout + i, n) * gelu_slope(load_up_to(x + i, n)), n);
    });
}

int gelu_forward(Engine* engine, void* out, const void* x, int is_half, long count) {
    if (is_half) gelu_all(engine, static_cast<half*>(out), static_cast<const half*>(x), count);
    else gelu_all(engine, static_cast<float*>(out), static_cast<const float*>(x), count);
    return kernels::kDone;
}

int gelu_backward(Engine* engine, void* dx, const void* dout, const void* x, int is_half, long count) {
    if (is_half) gelu_slopes(engine, static_cast<half*>(dx), static_cast<const half*>(dout), static_cast<const half*>(x), count);
    else gelu_slopes(engine, static_cast<float*>(dx), static_cast<const float*>(dout), static_cast<const float*>(x), count);
    return kernels::kDone;
}

template <typename A, typename B>
static void add(Engine* engine, float* out, const A* a, const B* b, long count) {
    in_strips(engine, count, [=](long i, long n) { store_up_to(out + i, load_up_to(a + i, n) + load_up_to(b + i, n), n); });
}

// out = x + branch; the stream is float32, the branch may be bf16.
int residual(Engine* engine, float* out, const float* x, const void* branch, int branch_half, long count) {
    if (branch_half) add(engine, out, x, static_cast<const half*>(branch), count);
    else add(engine, out, x, static_cast<const float*>(branch), count);
    return kernels::kDone;
}

template <typename T>
static void swiglu_all(Engine* engine, T* out, const T* x, long N, long F) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < N; n++)
        for (long c = 0; c < F; c += W) {
            const Vf gate = load_up_to(x + n * 2 * F + c, F - c), up = load_up_to(x + n * 2 * F + F + c, F - c);
            store_up_to(out + n * F + c, gate * sigmoid(gate) * up, F - c);
        }
}

template <typename T>
static void swiglu_slopes(Engine* engine, T* dx, const T* dout, const T* x, long N, long F) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < N; n++)
        for (long c = 0; c < F; c += W) {
            const long left = F - c, at = n * 2 * F + c;
            const Vf gate = load_up_to(x + at, left), up = load_up_to(x + at + F, left), d = load_up_to(dout + n * F + c, left);
            const Vf s = sigmoid(gate);
            store_up_to(dx + at, d * up * s * (1.0f + gate * (1.0f - s)), left);
            store_up_to(dx + at + F, d * gate * s, left);
        }
}

int swiglu_forward(Engine* engine, void* out, const void* x, int is_half, long N, long F) {
    if (is_half) swiglu_all(engine, static_cast<half*>(out), static_cast<const half*>(x), N, F);
    else swiglu_all(engine, static_cast<float*>(out), static_cast<const float*>(x), N, F);
    return kernels::kDone;
}

int swiglu_backward(Engine* engine, void* dx, const void* dout, const void* x, int is_half, long N, long F) {
    if (is_half) swiglu_slopes(engine, static_cast<half*>(dx), static_cast<const half*>(dout), static_cast<const half*>(x), N, F);
    else swiglu_slopes(engine, static_cast<float*>(dx), static_cast<const float*>(dout), static_cast<const float*>(x), N, F);
    return kernels::kDone;
}

template <typename T>
static void rotate(Engine* engine, T* qkv, const float* cosines, const float* sines, float sign, long B, long L, long C, long H) {
    const long half_width = C / H / 2;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < B * L; n++) {
        const float *cosine = cosines + n % L * half_width, *sine = sines + n % L * half_width;
        for (long head = 0; head < 2 * H; head++) {  // of Q, then of K
            T *first = qkv + n * 3 * C + head * 2 * half_width, *second = first + half_width;
            for (long j = 0; j < half_width; j += W) {
                const long left = half_width - j;
                const Vf a = load_up_to(first + j, left), b = load_up_to(second + j, left);
                const Vf c = load_up_to(cosine + j, left), s = load_up_to(sine + j, left) * sign;
                store_up_to(first + j, a * c - b * s, left);
                store_up_to(second + j, a * s + b * c, left);
            }
        }
    }
}

// sign 1 turns Q and K forward, -1 back; cosines and sines (≥L, C/H/2), qkv (B, L, 3·C).
int rotary(Engine* engine, void* qkv, int is_half, const float* cosines, const float* sines, float sign, long B, long L, long C, long H) {
    if (is_half) rotate(engine, static_cast<half*>(qkv), cosines, sines, sign, B, L, C, H);
    else rotate(engine, static_cast<float*>(qkv), cosines, sines, sign, B, L, C, H);
    return kernels::kDone;
}

// Philox 4x32-10 of one counter; see `kernels/philox.py`. 16 columns' worth: four counters side by side.
INLINE void philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t key, uint32_t* words) {
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t left = static_cast<uint64_t>(c0) * 0xD2511F53u, right = static_cast<uint64_t>(c2) * 0xCD9E8D57u;
        c0 = static_cast<uint32_t>(right >> 32) ^ c1 ^ k0;
        c1 = static_cast<uint32_t>(right);
        c2 = static_cast<uint32_t>(left >> 32) ^ c3 ^ k1;
        c3 = static_cast<uint32_t>(left);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

template <typename T>
static void drop(Engine* engine, T* out, const T* x, float scale, uint32_t below, uint64_t seed, uint32_t step, uint32_t stream, long first_row,
                 long N, long C) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < N; n++)
        for (long c = 0; c < C; c += 4) {
            uint32_t words[4];
            philox(static_cast<uint32_t>(c / 4), static_cast<uint32_t>(first_row + n), stream, step, seed, words);
            for (long i = c; i < least(C, c + 4); i++) put(out + n * C + i, words[i - c] >= below ? get(x + n * C + i) * scale : 0.0f);
        }
}

int dropout(Engine* engine, void* out, const void* x, int is_half, float scale, uint64_t below, uint64_t seed, uint64_t step, uint64_t stream,
            long first_row, long N, long C) {
    const uint32_t word = static_cast<uint32_t>(below), s = static_cast<uint32_t>(step), t = static_cast<uint32_t>(stream);
    if (is_half) drop(engine, static_cast<half*>(out), static_cast<const half*>(x), scale, word, seed, s, t, first_row, N, C);
    else drop(engine, static_cast<float*>(out), static_cast<const float*>(x), scale, word, seed, s, t, first_row, N, C);
    return kernels::kDone;
}

template <typename T>
static void widen_all(Engine* engine, float* out, const T* x, long count) {
    in_strips(engine, count, [=](long i, long n) { store_up_to(out + i, load_up_to(x + i, n), n); });
}

// bf16 to float32.
int widen_array(Engine* engine, float* out, const void* x, long count) {
    widen_all(engine, out, static_cast<const half*>(x), count);
    return kernels::kDone;
}

}  // namespace KERNELS_ISA
