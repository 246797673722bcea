// Layer norm and RMS norm. x and its gradient are float32 (the residual stream); out and its gradient may be bf16.
//
// Gradients of weight and bias are sums over rows: spans of kSpan rows are summed by one thread each, then the spans in
// their order, so the bits depend on N alone.
#include <math.h>

#include "ops.h"
#include "vec.h"

namespace KERNELS_ISA {

constexpr float kEpsilon = 1e-5f;
constexpr long kSpan = 64;

struct Norm {
    const float* x;
    const float* weight;
    const float* bias;  // null for RMS norm, as is mean
    float* mean;
    float* rstd;
    long N, C;
};

INLINE float row_sum(const float* x, long C) {
    Vf total{};
    for (long c = 0; c < C; c += W) total += load_up_to(x + c, C - c);
    return sum(total);
}

INLINE float squares(const float* x, float mean, long C) {
    Vf total{};
    for (long c = 0; c < C; c += W) {
        const Vf d = load_up_to(x + c, C - c) - mean;
        if (C - c >= W) total += d * d;
        else for (long i = 0; i < C - c; i++) total[i] += d[i] * d[i];
    }
    return sum(total);
}

template <typename T>
static void forward(Engine* engine, T* out, const Norm& s) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < s.N; n++) {
        const float* x = s.x + n * s.C;
        const float mean = s.mean ? row_sum(x, s.C) / s.C : 0.0f;
        const float rstd = 1.0f / sqrtf(squares(x, mean, s.C) / s.C + kEpsilon);
        if (s.mean) s.mean[n] = mean;
        s.rstd[n] = rstd;
        for (long c = 0; c < s.C; c += W) {
            const long left = s.C - c;
            Vf y = (load_up_to(x + c, left) - mean) * rstd * load_up_to(s.weight + c, left);
            if (s.bias) y += load_up_to(s.bias + c, left);
            store_up_to(out + n * s.C + c, y, left);
        }
    }
}

// One row: adds to the span's sums, writes dx or adds to it.
template <typename T>
INLINE void backward_row(float* dx, float* dweight, float* dbias, const T* dout, const float* x, const Norm& s, float mean, float rstd, bool add) {
    Vf along{}, across{};
    for (long c = 0; c < s.C; c += W) {
        const long left = s.C - c;
        const Vf d = load_up_to(dout + c, left), normal = (load_up_to(x + c, left) - mean) * rstd;
        const Vf g = d * load_up_to(s.weight + c, left);
        store_up_to(dweight + c, load_up_to(dweight + c, left) + d * normal, left);
        if (dbias) store_up_to(dbias + c, load_up_to(dbias + c, left) + d, left);
        across += g;
        along += g * normal;
    }
    const float slope = sum(along) / s.C, shift = s.mean ? sum(across) / s.C : 0.0f;
    for (long c = 0; c < s.C; c += W) {
        const long left = s.C - c;
        const Vf normal = (load_up_to(x + c, left) - mean) * rstd;
        Vf y = (load_up_to(dout + c, left) * load_up_to(s.weight + c, left) - shift - normal * slope) * rstd;
        if (add) y += load_up_to(dx + c, left);
        store_up_to(dx + c, y, left);
    }
}

template <typename T>
static int backward(Engine* engine, float* dx, float* dweight, float* dbias, const T* dout, const Norm& s, bool add) {
    const long spans = ceil_div(s.N, kSpan), step = round_up(s.C, 16);
    float* sums = static_cast<float*>(shared_room(engine, spans * 2 * step * 4));
    if (!sums) return kernels::kNoMemory;
#pragma omp parallel num_threads(engine->threads)
    {
#pragma omp for schedule(static)
        for (long span = 0; span < spans; span++) {
            float* sum_weight = sums + 2 * span * step;
            float* sum_bias = dbias ? sum_weight + step : nullptr;
            memset(sum_weight, 0, 2 * step * 4);
            for (long n = span * kSpan; n < least(s.N, (span + 1) * kSpan); n++)
                backward_row(dx + n * s.C, sum_weight, sum_bias, dout + n * s.C, s.x + n * s.C, s, s.mean ? s.mean[n] : 0.0f, s.rstd[n], add);
        }
#pragma omp for schedule(static)
        for (long c = 0; c < s.C; c++)
            for (long span = 0; span < spans; span++) {
                dweight[c] += sums[2 * span * step + c];
                if (dbias) dbias[c] += sums[(2 * span + 1) * step + c];
            }
    }
    return kernels::kDone;
}

int norm_forward(Engine* engine, void* out, int out_half, float* mean, float* rstd, const float* x, const float* weight,
                 const float* bias, long N, long C) {
    const Norm s = {x, weight, bias, mean, rstd, N, C};
    if (out_half) forward(engine, static_cast<half*>(out), s);
    else forward(engine, static_cast<float*>(out), s);
    return kernels::kDone;
}

int norm_backward(Engine* engine, float* dx, int add, float* dweight, float* dbias, const void* dout, int dout_half, const float* x,
                  const float* weight, float* mean, float* rstd, long N, long C) {
    const Norm s = {x, weight, nullptr, mean, rstd, N, C};
    if (dout_half) return backward(engine, dx, dweight, dbias, static_cast<const half*>(dout), s, add != 0);
    return backward(engine, dx, dweight, dbias, static_cast<const float*>(dout), s, add != 0);
}

}  // namespace KERNELS_ISA
