// Which instruction sets this library holds, best first, each with its test. GCC's CPUID support also asks whether the
// operating system saves the wide registers.
#include "isa.h"

namespace portable {
extern const kernels::Entry kOps[];
}

#if defined(__x86_64__)
namespace avx2 {
extern const kernels::Entry kOps[];
}
namespace avx512 {
extern const kernels::Entry kOps[];
}
namespace avx512bf16 {
extern const kernels::Entry kOps[];
}

static bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
static bool has_avx512bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif

static bool always() { return true; }

namespace kernels {

const Isa kIsas[KERNELS_ISA_COUNT] = {
#if defined(__x86_64__)
    {"avx512bf16", has_avx512bf16, avx512bf16::kOps},
    {"avx512", has_avx512, avx512::kOps},
    {"avx2", has_avx2, avx2::kOps},
#endif
    {"portable", always, portable::kOps},
};

}  // namespace kernels
