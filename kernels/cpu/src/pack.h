// How the left factor of a product is read: as it lies where that serves, else from a packed block.
#pragma once

#include "gemm.h"

namespace KERNELS_ISA {

// Row r of group g (kRows rows each) at unit k lies at data[g·group_step + r·row_step + k·unit_step].
struct Left {
    const float* data;
    long row_step, unit_step, group_step;
};

// Rows [r0, r0 + rows) and columns [k0, k0 + count) of A, which has `beyond` more rows. `room` holds
// round_up(rows, kRows)·units + kSlack floats and is written only where A does not serve as it lies: it has another
// type, or lies the other way.
constexpr long kSlack = 16;
Left left_block(float* room, const Matrix& a, long r0, long rows, long k0, long count, long beyond, bool in_half);

}  // namespace KERNELS_ISA
