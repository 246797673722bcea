// Softmax cross-entropy over rows of logits, float32 or bf16; losses and log-sum-exps are float32.
#include <math.h>

#include "ops.h"
#include "vec.h"

namespace KERNELS_ISA {

template <typename T>
INLINE float largest(const T* x, long V) {
    Vf best = splat(-INFINITY);
    long v = 0;
    for (; v + W <= V; v += W) best = larger(load(x + v), best);
    float found = peak(best);
    for (; v < V; v++) found = get(x + v) > found ? get(x + v) : found;
    return found;
}

template <typename T>
static void forward(Engine* engine, float* losses, float* lse, const T* logits, const int64_t* targets, long N, long V) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < N; n++) {
        const T* x = logits + n * V;
        const float top = largest(x, V);
        Vf total{};
        long v = 0;
        for (; v + W <= V; v += W) total += exponential(load(x + v) - top);
        if (v < V) {
            const Vf last = exponential(load_part(x + v, V - v) - top);
            for (long i = 0; i < V - v; i++) total[i] += last[i];
        }
        lse[n] = logf(sum(total)) + top;
        losses[n] = lse[n] - get(x + targets[n]);
    }
}

template <typename T>
static void backward(Engine* engine, T* dlogits, const T* logits, const float* lse, const int64_t* targets, float scale, long N, long V) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < N; n++) {
        const T* x = logits + n * V;
        T* d = dlogits + n * V;
        const float target = (expf(get(x + targets[n]) - lse[n]) - 1.0f) * scale;
        for (long v = 0; v < V; v += W) store_up_to(d + v, exponential(load_up_to(x + v, V - v) - lse[n]) * scale, V - v);
        put(d + targets[n], target);
    }
}

int cross_entropy_forward(Engine* engine, float* losses, float* lse, const void* logits, int is_half, const int64_t* targets, long N, long V) {
    if (is_half) forward(engine, losses, lse, static_cast<const half*>(logits), targets, N, V);
    else forward(engine, losses, lse, static_cast<const float*>(logits), targets, N, V);
    return kernels::kDone;
}

int cross_entropy_backward(Engine* engine, void* dlogits, const void* logits, int is_half, const float* lse, const int64_t* targets, float scale,
                           long N, long V) {
    if (is_half) backward(engine, static_cast<half*>(dlogits), static_cast<const half*>(logits), lse, targets, scale, N, V);
    else backward(engine, static_cast<float*>(dlogits), static_cast<const float*>(logits), lse, targets, scale, N, V);
    return kernels::kDone;
}

}  // namespace KERNELS_ISA
