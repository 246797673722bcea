// The length of a gradient and the AdamW update, over flat float32 buffers.
#include <math.h>

#include "ops.h"
#include "vec.h"

namespace KERNELS_ISA {

constexpr long kNormStrip = 16384;

// Writes √Σg² to *norm. Products and sums are float64; strips are summed each by one thread, then in their order.
int global_norm(Engine* engine, double* norm, const float* gradients, long count) {
    const long strips = ceil_div(count, kNormStrip);
    double* sums = static_cast<double*>(shared_room(engine, (strips + 1) * 8));
    if (!sums) return kernels::kNoMemory;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long strip = 0; strip < strips; strip++) {
        const long stop = least(count, (strip + 1) * kNormStrip);
        double lanes[8] = {};
        long i = strip * kNormStrip;
        for (; i + 8 <= stop; i += 8)
            for (int lane = 0; lane < 8; lane++) {
                const double g = gradients[i + lane];
                lanes[lane] += g * g;
            }
        for (; i < stop; i++) lanes[0] += static_cast<double>(gradients[i]) * gradients[i];
        sums[strip] = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    }
    double total = 0;
    for (long strip = 0; strip < strips; strip++) total += sums[strip];
    *norm = sqrt(total);
    return kernels::kDone;
}

struct Rates {
    float rate, spread, beta1, beta2, epsilon, keep, scale;
};

INLINE void update(Vf& p, Vf& m, Vf& v, Vf g, const Rates& r) {
    g *= r.scale;
    m = m * r.beta1 + (1.0f - r.beta1) * g;
    v = v * r.beta2 + (1.0f - r.beta2) * g * g;
    p = p * r.keep - r.rate * m / (root(v * r.spread) + r.epsilon);
}

// rate = η/(1-β₁ᵗ), spread = 1/(1-β₂ᵗ), keep = 1 - η·λ, scale: of the gradients; see `kernels.reference.adamw_step`.
int adamw(Engine* engine, float* parameters, float* first, float* second, const float* gradients, double rate, double spread, double beta1,
          double beta2, double epsilon, double keep, double scale, long count) {
    const Rates r = {static_cast<float>(rate), static_cast<float>(spread), static_cast<float>(beta1), static_cast<float>(beta2),
                     static_cast<float>(epsilon), static_cast<float>(keep), static_cast<float>(scale)};
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long start = 0; start < count; start += kNormStrip) {
        const long stop = least(count, start + kNormStrip);
        for (long i = start; i < stop; i += W) {
            const long n = stop - i;
            Vf p = load_up_to(parameters + i, n), m = load_up_to(first + i, n), v = load_up_to(second + i, n);
            update(p, m, v, load_up_to(gradients + i, n), r);
            store_up_to(parameters + i, p, n);
            store_up_to(first + i, m, n);
            store_up_to(second + i, v, n);
        }
    }
    return kernels::kDone;
}

}  // namespace KERNELS_ISA
