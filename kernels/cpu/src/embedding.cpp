// Token and position tables, in float32 as the residual stream is.
#include "ops.h"
#include "vec.h"

namespace KERNELS_ISA {

int embedding_forward(Engine* engine, float* out, const int64_t* tokens, const float* table, const float* positions, long B, long T, long C) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long n = 0; n < B * T; n++) {
        const float* row = table + tokens[n] * C;
        const float* position = positions ? positions + n % T * C : nullptr;
        for (long c = 0; c < C; c += W) {
            Vf v = load_up_to(row + c, C - c);
            if (position) v += load_up_to(position + c, C - c);
            store_up_to(out + n * C + c, v, C - c);
        }
    }
    return kernels::kDone;
}

// A thread owns columns, and goes through the tokens in their order: a row that occurs often is summed in that order.
int embedding_backward(Engine* engine, float* dtable, float* dpositions, const float* dout, const int64_t* tokens, long B, long T, long C) {
    constexpr long kTableStrip = 64;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (long start = 0; start < C; start += kTableStrip) {
        const long columns = least(kTableStrip, C - start);
        for (long n = 0; n < B * T; n++)
            for (long c = start; c < start + columns; c += W) {
                const long left = start + columns - c;
                const Vf d = load_up_to(dout + n * C + c, left);
                float* row = dtable + tokens[n] * C + c;
                store_up_to(row, load_up_to(row, left) + d, left);
                if (!dpositions) continue;
                float* position = dpositions + n % T * C + c;
                store_up_to(position, load_up_to(position, left) + d, left);
            }
    }
    return kernels::kDone;
}

}  // namespace KERNELS_ISA
