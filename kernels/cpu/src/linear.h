// Shapes of a linear layer: N rows, I inputs, O outputs.
#pragma once

#include "gemm.h"

namespace KERNELS_ISA {

struct Linear {
    const void* x;
    bool x_half;
    Matrix weight;
    long N, I, O;
};

INLINE Matrix turned(Matrix m) { return {m.data, m.column_step, m.row_step, m.is_half}; }

// weight (I, O) row by row or, turned, as the transpose of a row-major (O, I): a head tied to the token table.
INLINE Matrix weight_of(const float* weight, int is_turned, long I, long O) {
    return is_turned ? Matrix{weight, 1, I, false} : Matrix{weight, O, 1, false};
}

}  // namespace KERNELS_ISA
