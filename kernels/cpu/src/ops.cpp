// The table of ops of this instruction set: names as in `kernels/cpu/ops.py`.
#include "ops.h"

namespace KERNELS_ISA {

#define OP(name) {#name, reinterpret_cast<void*>(&name)}

extern const kernels::Entry kOps[];
const kernels::Entry kOps[] = {
    OP(embedding_forward),
    OP(embedding_backward),
    OP(norm_forward),
    OP(norm_backward),
    OP(linear_forward),
    OP(linear_backward),
    OP(attention_forward),
    OP(attention_backward),
    OP(gelu_forward),
    OP(gelu_backward),
    OP(swiglu_forward),
    OP(swiglu_backward),
    OP(residual),
    OP(rotary),
    OP(dropout),
    OP(widen_array),
    OP(cross_entropy_forward),
    OP(cross_entropy_backward),
    OP(decode),
    OP(global_norm),
    OP(adamw),
    {nullptr, nullptr},
};

}  // namespace KERNELS_ISA
