// The instruction sets that were compiled in, and how to tell whether the processor and the kernel offer them.
#pragma once

#include "engine.h"

namespace kernels {

struct Isa {
    const char* name;
    bool (*is_here)();
    const Entry* ops;
};

extern const Isa kIsas[KERNELS_ISA_COUNT];  // best first

}  // namespace kernels
