// The loops around the tile: B packed once by all threads, then blocks of C, each summed by one thread.
//
// Goto & van de Geijn 2008, "Anatomy of high-performance matrix multiplication": a block of A stays in the second
// cache, a panel of B in the first or second, and C is touched once per block of K.
#include "gemm.h"

#include <omp.h>

#include "finish.h"
#include "pack.h"

namespace KERNELS_ISA {

// Tuning, on 2 cores of AMD Zen 4 (32 KiB and 1 MiB of private cache), 2026-11: 768 units keep a panel of B (192 KiB)
// and a block of A beside it in the second cache; 96 rows cut any usual M into enough blocks.
constexpr long kBlockRows = 96;
constexpr long kBlockPanels = 8;
constexpr long kBlockUnits = 768;

struct Plan {
    const Product* p;
    bool packed_half;
    long depth, blocks_k;       // elements of K in a block, number of blocks
    long panels;                // of B
    long blocks_m, blocks_n;
    float* b;

    long units(long kb) const { return units_of(least(depth, p->K - kb * depth), packed_half); }
    float* panel(long kb, long j) const { return b + (kb * units(0) * panels + j * units(kb)) * kColumns; }
};

static Plan plan_of(const Product& p) {
    Plan plan{};
    plan.p = &p;
    plan.packed_half = packs_half(p.in_half);
    const long most_k = plan.packed_half ? 2 * kBlockUnits : kBlockUnits;
    const long parts = ceil_div(p.K, most_k);
    plan.depth = round_up(ceil_div(p.K, parts), 2);
    plan.blocks_k = ceil_div(p.K, plan.depth);
    plan.panels = ceil_div(p.N, kColumns);
    plan.blocks_m = ceil_div(p.M, kBlockRows);
    plan.blocks_n = ceil_div(plan.panels, kBlockPanels);
    return plan;
}

// One block of C: rows [m0, m0 + rows), panels [j0, j1). Partial sums over K stay in `sums` until the last block of K.
static void block(const Plan& plan, float* room, long mb, long nb) {
    const Product& p = *plan.p;
    const long m0 = mb * kBlockRows, rows = least(kBlockRows, p.M - m0);
    const long j0 = nb * kBlockPanels, j1 = least(plan.panels, j0 + kBlockPanels);
    const long groups = ceil_div(rows, kRows);
    float* sums = room + kBlockRows * plan.units(0) + kSlack;
    for (long kb = 0; kb < plan.blocks_k; kb++) {
        const long k0 = kb * plan.depth, count = least(plan.depth, p.K - k0);
        const Left left = left_block(room, p.a, m0, rows, k0, count, p.M - m0 - rows, p.in_half);
        const bool last = kb + 1 == plan.blocks_k;
        for (long j = j0; j < j1; j++) {
            const long columns = least(kColumns, p.N - j * kColumns);
            const float* panel = plan.panel(kb, j);
            for (long g = 0; g < groups; g++) {
                const long n = least(kRows, rows - g * kRows);
                float* tile = sums + (plan.blocks_k > 1 ? ((j - j0) * groups + g) * kRows * kColumns : 0);
                if (last) expect(p.finish, m0 + g * kRows, n, j * kColumns, columns);
                tile_for(n, columns, p.in_half)(plan.units(kb), left.data + g * left.group_step, left.row_step,
                                                left.unit_step, panel, tile, kColumns, kb > 0);
                if (last) finish(p.finish, tile, m0 + g * kRows, n, j * kColumns, columns);
            }
        }
    }
}

kernels::Outcome multiply(Engine* engine, const Product& p) {
    if (p.M <= 0 || p.N <= 0) return kernels::kDone;
    Plan plan = plan_of(p);
    const size_t packed = static_cast<size_t>(plan.panels) * plan.blocks_k * plan.units(0) * kColumns * 4;
    const size_t local = static_cast<size_t>(kBlockRows) * (plan.units(0) + kBlockPanels * kColumns) * 4 + kSlack * 4;
    plan.b = static_cast<float*>(shared_room(engine, packed));
    if (!plan.b || !local_rooms(engine, local)) return kernels::kNoMemory;
#pragma omp parallel num_threads(engine->threads)
    {
#pragma omp for collapse(2) schedule(static)
        for (long kb = 0; kb < plan.blocks_k; kb++)
            for (long j = 0; j < plan.panels; j++) {
                const long k0 = kb * plan.depth;
                pack_columns(plan.panel(kb, j), p.b, k0, least(plan.depth, p.K - k0), j * kColumns,
                             least(kColumns, p.N - j * kColumns), p.in_half);
            }
        float* room = static_cast<float*>(engine->local[omp_get_thread_num()].data);
#pragma omp for collapse(2) schedule(dynamic, 1)
        for (long mb = 0; mb < plan.blocks_m; mb++)
            for (long nb = 0; nb < plan.blocks_n; nb++) block(plan, room, mb, nb);
    }
    return kernels::kDone;
}

}  // namespace KERNELS_ISA
