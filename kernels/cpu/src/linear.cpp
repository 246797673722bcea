// Linear layers: x·W + b with what follows fused in, and the two products of the backward.
#include "linear.h"
#include "ops.h"

#include <omp.h>

namespace KERNELS_ISA {

// Adds the column sums of d (N, O) to sums (O). Rows are summed in spans of 64 first: shorter chains round less. A
// thread owns whole columns.
template <typename T>
static void add_column_sums(Engine* engine, float* sums, const T* d, long N, long O) {
    constexpr long kSpan = 64;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long c = 0; c < O; c += W) {
        const long n = least(W, O - c);
        Vf total{};
        for (long r0 = 0; r0 < N; r0 += kSpan) {
            Vf part{};
            for (long r = r0; r < least(N, r0 + kSpan); r++) part += load_up_to(d + r * O + c, n);
            total += part;
        }
        store_up_to(sums + c, load_up_to(sums + c, n) + total, n);
    }
}

static kernels::Outcome forward(Engine* engine, const Linear& s, Finish finish) {
    const Product product = {s.N, s.O, s.I, {s.x, s.I, 1, s.x_half}, s.weight, s.x_half, finish};
    return multiply(engine, product);
}

int linear_forward(Engine* engine, void* out, int out_half, void* activated, const float* residual, const void* x,
                   int x_half, const float* weight, int weight_turned, const float* bias, long N, long I, long O) {
    const Linear s = {x, x_half != 0, weight_of(weight, weight_turned, I, O), N, I, O};
    return forward(engine, s, {out, O, out_half != 0, false, bias, residual, nullptr, activated});
}

// dx (N, I) = dout·Wᵀ, times gelu'(slope_at) where given; dweight += xᵀ·dout; dbias += column sums of dout.
int linear_backward(Engine* engine, void* dx, int dx_half, float* dweight, float* dbias, const void* dout,
                    int dout_half, const void* x, int x_half, const float* weight, int weight_turned,
                    const void* slope_at, long N, long I, long O) {
    const bool in_half = x_half || dout_half;
    if (dbias && dout_half) add_column_sums(engine, dbias, static_cast<const half*>(dout), N, O);
    else if (dbias) add_column_sums(engine, dbias, static_cast<const float*>(dout), N, O);
    const Matrix d = {dout, O, 1, dout_half != 0}, rows = {x, I, 1, x_half != 0};
    // A weight that lies turned (O, I) has its gradient turned too: dWᵀ = doutᵀ·x.
    const Finish sum = {dweight, weight_turned ? I : O, false, true, nullptr, nullptr, nullptr, nullptr};
    const Product slope = weight_turned ? Product{O, I, N, turned(d), rows, in_half, sum}
                                        : Product{I, O, N, turned(rows), d, in_half, sum};
    if (multiply(engine, slope) != kernels::kDone) return kernels::kNoMemory;
    const Finish written = {dx, I, dx_half != 0, false, nullptr, nullptr, slope_at, nullptr};
    const Product back = {N, I, O, d, turned(weight_of(weight, weight_turned, I, O)), in_half, written};
    return multiply(engine, back);
}

}  // namespace KERNELS_ISA
