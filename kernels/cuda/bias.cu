// The bias of a matrix product: added to its rows, and its gradient, the sum of their gradients over the rows.
#include "rows.cuh"

constexpr int kWide = 8;

// out (flat, rows of O) += bias (O,).
template <typename T>
DEVICE void forward(T* out, const float* bias, i64 count, int O) {
    const i64 at = place(kWide), left = count - at;
    if (left <= 0) return;
    float value[kWide];
    load(value, out + at, left);
    add_row(value, bias, at, O);
    store(out + at, value, left);
}

// This block's share of the column sums of dout (N, O), in partial (parts, O): its rows are those whose number is
// blockIdx.y modulo the parts. column_sums of norm.cu adds the shares up. A warp takes 256 columns of every 8th row.
template <typename T>
DEVICE void backward(float* partial, const T* dout, int N, int O) {
    SHARED(float, shares, 8 * kWarp * kWide);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warps = blockDim.x / kWarp;
    const int column = (blockIdx.x * kWarp + lane) * kWide;
    float sum[kWide] = {};
    if (column < O)
        for (i64 row = blockIdx.y + static_cast<i64>(gridDim.y) * warp; row < N; row += static_cast<i64>(gridDim.y) * warps) {
            float value[kWide];
            load(value, dout + row * O + column, O - column);
#pragma unroll
            for (int i = 0; i < kWide; i++) sum[i] += value[i];
        }
    store(shares + threadIdx.x * kWide, sum, kWide);
    __syncthreads();
    for (int c = threadIdx.x; c < kWarp * kWide; c += blockDim.x) {
        const int to = blockIdx.x * kWarp * kWide + c;
        if (to >= O) return;
        float total = 0.0f;
        for (int each = 0; each < warps; each++) total += shares[each * kWarp * kWide + c];
        partial[static_cast<i64>(blockIdx.y) * O + to] = total;
    }
}

KERNEL(256) bias_forward_bf16(bf16* out, const float* bias, i64 count, int O) { forward(out, bias, count, O); }
KERNEL(256) bias_forward_fp32(float* out, const float* bias, i64 count, int O) { forward(out, bias, count, O); }
KERNEL(256) bias_backward_bf16(float* partial, const bf16* dout, int N, int O) { backward(partial, dout, N, O); }
KERNEL(256) bias_backward_fp32(float* partial, const float* dout, int N, int O) { backward(partial, dout, N, O); }
