// Every op of this instruction set, as `kernels/cpu/ops.py` calls it. All return an `Outcome`. Pointers are to
// contiguous arrays whose shapes Python has checked; `x_half`, `is_half` say whether an array is bf16 (else float32).
// Null stands for what an op does without.
#pragma once

#include <stdint.h>

#include "engine.h"

namespace KERNELS_ISA {

using kernels::Engine;

int embedding_forward(Engine* engine, float* out, const int64_t* tokens, const float* table, const float* positions,
                      long B, long T, long C);
int embedding_backward(Engine* engine, float* dtable, float* dpositions, const float* dout, const int64_t* tokens,
                       long B, long T, long C);

// Layer norm; without mean and bias, RMS norm. With `add`, the backward adds to dx.
int norm_forward(Engine* engine, void* out, int out_half, float* mean, float* rstd, const float* x,
                 const float* weight, const float* bias, long N, long C);
int norm_backward(Engine* engine, float* dx, int add, float* dweight, float* dbias, const void* dout, int dout_half,
                  const float* x, const float* weight, float* mean, float* rstd, long N, long C);

// out = x·W + bias + residual, and activated = gelu(out). The weight is (I, O), or (O, I) when turned.
int linear_forward(Engine* engine, void* out, int out_half, void* activated, const float* residual, const void* x,
                   int x_half, const float* weight, int weight_turned, const float* bias, long N, long I, long O);
// dx = dout·Wᵀ, times gelu'(slope_at); dweight += xᵀ·dout; dbias += column sums of dout.
int linear_backward(Engine* engine, void* dx, int dx_half, float* dweight, float* dbias, const void* dout,
                    int dout_half, const void* x, int x_half, const float* weight, int weight_turned,
                    const void* slope_at, long N, long I, long O);

int attention_forward(Engine* engine, void* out, float* lse, const void* qkv, int is_half, long B, long T, long C,
                      long H);
int attention_backward(Engine* engine, void* dqkv, const void* dout, const void* out, const float* lse,
                       const void* qkv, int is_half, long B, long T, long C, long H);

int gelu_forward(Engine* engine, void* out, const void* x, int is_half, long count);
int gelu_backward(Engine* engine, void* dx, const void* dout, const void* x, int is_half, long count);
int swiglu_forward(Engine* engine, void* out, const void* x, int is_half, long N, long F);
int swiglu_backward(Engine* engine, void* dx, const void* dout, const void* x, int is_half, long N, long F);
int residual(Engine* engine, float* out, const float* x, const void* branch, int branch_half, long count);
int rotary(Engine* engine, void* qkv, int is_half, const float* cosines, const float* sines, float sign, long B,
           long L, long C, long H);
int dropout(Engine* engine, void* out, const void* x, int is_half, float scale, uint64_t below, uint64_t seed,
            uint64_t step, uint64_t stream, long first_row, long N, long C);
int widen_array(Engine* engine, float* out, const void* x, long count);

int cross_entropy_forward(Engine* engine, float* losses, float* lse, const void* logits, int is_half,
                          const int64_t* targets, long N, long V);
int cross_entropy_backward(Engine* engine, void* dlogits, const void* logits, int is_half, const float* lse,
                           const int64_t* targets, float scale, long N, long V);

// One token through a whole decoder; `blocks` is an array of `DecodeBlock` (decode.cpp). positions null: rotary.
int decode(Engine* engine, float* logits, const void* blocks, const float* table, const float* positions,
           const float* cosines, const float* sines, const float* norm_weight, const float* norm_bias,
           const float* head, int swiglu, long token, long position, long T, long L, long H, long C, long F, long V);

int global_norm(Engine* engine, double* norm, const float* gradients, long count);
int adamw(Engine* engine, float* parameters, float* first, float* second, const float* gradients, double rate,
          double spread, double beta1, double beta2, double epsilon, double keep, double scale, long count);

}  // namespace KERNELS_ISA
