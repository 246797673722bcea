// The fibers behind shim.h: one stack per CUDA thread, a list of those that can run, meetings that wake them.
#include "shim.h"

#include <stdio.h>
#include <stdlib.h>

#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#define ASAN 1
#else
#define ASAN 0
#endif

namespace shim {

Index thread, block, block_size, grid_size;
int lane_index;

namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr unsigned char kPoison = 0xA5;
constexpr int kWarpLanes = 32;

struct Copy {
    void* to;
    const void* from;  // null: zeros
    int group;
};

struct Fiber {
    void* stack_pointer;
    void* fake_stack;
    Index at;
    int number;
    int group;  // of copies, open at present
    std::vector<Copy> copies;
};

// One meeting of a warp. Two sets of desks take turns: a lane may come to the next meeting before a slower one has
// taken its things home from this one, but not to the one after, which needs the slower one.
struct Warp {
    Lane brought[2][kWarpLanes], home[2][kWarpLanes];
    std::vector<Fiber*> waiting;
    int turn, kind, lanes;
};

using Memory = std::unique_ptr<unsigned char[], decltype(&free)>;

// Exactly so many bytes, that the sanitizer may see one too many; null for none.
Memory allocate(size_t bytes) {
    void* memory = nullptr;
    if (bytes && posix_memalign(&memory, 128, bytes)) abort();
    return {static_cast<unsigned char*>(memory), free};
}

struct Grid {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<Fiber*> ready, at_barrier;
    std::vector<std::pair<void*, size_t>> poisoned;
    unsigned char* stacks;
    Memory shared{nullptr, free};
    Body body;
    void** arguments;
    void* scheduler;
    void* scheduler_fake_stack = nullptr;
    const void* scheduler_bottom = nullptr;
    size_t scheduler_bytes = 0;
    Fiber* running;
    int alive;
    uint64_t random;
    char fault[256];
};

Grid* grid;

// x86-64 only: saves what a call preserves, changes stacks, and returns into the other fiber.
extern "C" void shim_switch(void** from, void* to);
__asm__(
    ".text\n.globl shim_switch\nshim_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

void to_scheduler(bool last) {
    Fiber* me = grid->running;
#if ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &me->fake_stack, grid->scheduler_bottom, grid->scheduler_bytes);
#endif
    shim_switch(&me->stack_pointer, grid->scheduler);
    (void)last;
#if ASAN
    __sanitizer_finish_switch_fiber(me->fake_stack, &grid->scheduler_bottom, &grid->scheduler_bytes);
#endif
}

void begin() {
#if ASAN
    __sanitizer_finish_switch_fiber(nullptr, &grid->scheduler_bottom, &grid->scheduler_bytes);
#endif
    grid->body(grid->arguments);
    grid->alive--;
    to_scheduler(true);
    abort();
}

void resume(Fiber* fiber) {
    grid->running = fiber;
    thread = fiber->at;
    lane_index = fiber->number % kWarpLanes;
#if ASAN
    const unsigned char* bottom = grid->stacks + kStackBytes * fiber->number;
    __sanitizer_start_switch_fiber(&grid->scheduler_fake_stack, bottom, kStackBytes);
#endif
    shim_switch(&grid->scheduler, fiber->stack_pointer);
#if ASAN
    __sanitizer_finish_switch_fiber(grid->scheduler_fake_stack, nullptr, nullptr);
#endif
}

uint64_t draw() {  // splitmix64
    uint64_t z = (grid->random += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

std::vector<uint64_t> in_some_order(uint64_t count) {
    std::vector<uint64_t> order(count);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t at = draw() % (i + 1);
        order[i] = order[at];
        order[at] = i;
    }
    return order;
}

void wake(std::vector<Fiber*>& waiting) {
    grid->ready.insert(grid->ready.end(), waiting.begin(), waiting.end());
    waiting.clear();
}

void prepare_block(size_t shared) {
    const int threads = static_cast<int>(grid->fibers.size());
    grid->alive = threads;
    grid->ready.clear();
    grid->at_barrier.clear();
    grid->poisoned.clear();
    if (shared) memset(grid->shared.get(), kPoison, shared);
    for (Warp& warp : grid->warps) warp.waiting.clear(), warp.turn = 0;
    for (int number = 0; number < threads; number++) {
        Fiber& fiber = grid->fibers[number];
        const unsigned x = block_size.x, y = block_size.y, n = static_cast<unsigned>(number);
        fiber = {nullptr, nullptr, {n % x, n / x % y, n / (x * y)}, number, 0, {}};
        void** top = reinterpret_cast<void**>(grid->stacks + kStackBytes * (number + 1) - 16);
        *--top = nullptr;  // the return address of `begin`, which never returns
        *--top = reinterpret_cast<void*>(begin);
        for (int saved = 0; saved < 6; saved++) *--top = nullptr;
        fiber.stack_pointer = top;
        grid->ready.push_back(&fiber);
    }
}

// Runs one block to its end; false when those left can never go on.
bool run_block() {
    while (grid->alive) {
        if (grid->ready.empty()) {
            const int waiting = static_cast<int>(grid->at_barrier.size());
            if (waiting && waiting == grid->alive) {
                wake(grid->at_barrier);
                continue;
            }
            if (!grid->fault[0])
                snprintf(grid->fault, sizeof grid->fault,
                         "block (%u, %u, %u): %d of %d threads wait at a barrier, %d for lanes of their warp that "
                         "never come",
                         block.x, block.y, block.z, waiting, grid->alive, grid->alive - waiting);
            return false;
        }
        const size_t chosen = draw() % grid->ready.size();
        std::swap(grid->ready[chosen], grid->ready.back());
        Fiber* next = grid->ready.back();
        grid->ready.pop_back();
        resume(next);
        if (grid->fault[0]) return false;
    }
    return true;
}

}  // namespace

void block_barrier() {
    grid->at_barrier.push_back(grid->running);
    to_scheduler(false);
}

Lane& desk() {
    Warp& warp = grid->warps[grid->running->number / kWarpLanes];
    return warp.brought[warp.turn & 1][lane_index];
}

Lane& meet(Kind kind, Resolve resolve) {
    Fiber* me = grid->running;
    Warp& warp = grid->warps[me->number / kWarpLanes];
    if (warp.waiting.empty()) warp.kind = kind;
    if (warp.kind != kind) {
        snprintf(grid->fault, sizeof grid->fault,
                 "block (%u, %u, %u), thread %d: lanes of one warp meet for different things (%d and %d)", block.x,
                 block.y, block.z, me->number, warp.kind, kind);
        to_scheduler(false);
    }
    const int turn = warp.turn & 1;
    warp.waiting.push_back(me);
    if (static_cast<int>(warp.waiting.size()) == kWarpLanes) {
        resolve(warp.brought[turn], warp.home[turn]);
        warp.turn++;
        wake(warp.waiting);  // the last to come waits its turn like the others
    }
    to_scheduler(false);
    return warp.home[turn][me->number % kWarpLanes];
}

void fresh(void* memory, size_t bytes) {
    for (const auto& [known, size] : grid->poisoned)
        if (known == memory) return;
    grid->poisoned.emplace_back(memory, bytes);
    memset(memory, kPoison, bytes);
}

void* dynamic_shared() { return grid->shared.get(); }

void copy_async(void* to, const void* from, bool there) {
    if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16)
        snprintf(grid->fault, sizeof grid->fault, "thread %d: cp.async between addresses not aligned to 16", grid->running->number);
    memset(to, kPoison, 16);
    grid->running->copies.push_back({to, there ? from : nullptr, grid->running->group});
}

void close_copies() { grid->running->group++; }

void wait_copies(int left) {
    std::vector<Copy>& copies = grid->running->copies;
    size_t kept = 0;
    for (const Copy& copy : copies)
        if (copy.group >= grid->running->group - left) copies[kept++] = copy;
        else if (copy.from) memcpy(copy.to, copy.from, 16);
        else memset(copy.to, 0, 16);
    copies.resize(kept);
}

namespace {
inline float half_of(uint32_t word, int half) { return __uint_as_float(half ? word & 0xffff0000u : word << 16); }
}  // namespace

void product(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    Lane& mine = desk();
    memcpy(mine.word, a, 16);
    memcpy(mine.word + 4, b, 8);
    memcpy(mine.word + 6, sum, 16);
    Lane& home = meet(kProduct, [](Lane* brought, Lane* taken) {
        float A[16][16], B[16][8];
        for (int lane = 0; lane < 32; lane++) {
            const int group = lane / 4, pair = lane % 4 * 2;
            for (int half = 0; half < 2; half++) {
                for (int quarter = 0; quarter < 4; quarter++)
                    A[group + quarter % 2 * 8][pair + half + quarter / 2 * 8] = half_of(brought[lane].word[quarter], half);
                for (int upper = 0; upper < 2; upper++)
                    B[pair + half + upper * 8][group] = half_of(brought[lane].word[4 + upper], half);
            }
        }
        for (int lane = 0; lane < 32; lane++) memcpy(taken[lane].word, brought[lane].word + 6, 16);
        for (int row = 0; row < 16; row++) {
            float line[8] = {};
            for (int k = 0; k < 16; k++)
                for (int column = 0; column < 8; column++) line[column] += A[row][k] * B[k][column];
            for (int column = 0; column < 8; column++) {
                Lane& lane = taken[row % 8 * 4 + column / 2];
                float* of = reinterpret_cast<float*>(lane.word) + row / 8 * 2 + column % 2;
                *of += line[column];
            }
        }
    });
    memcpy(sum, home.word, 16);
}

void matrix_load(uint32_t (&to)[4], const void* row, bool transposed) {
    Lane& mine = desk();
    memcpy(mine.word, row, 16);  // here, so that the sanitizer sees whose address it was
    mine.word[4] = transposed;
    mine.word[5] = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(row) / 16 % 8);  // which 4 of the 32 banks
    if (reinterpret_cast<uintptr_t>(row) % 16)
        snprintf(grid->fault, sizeof grid->fault, "thread %d: ldmatrix of an address not aligned to 16", grid->running->number);
    Lane& home = meet(kMatrixLoad, [](Lane* brought, Lane* taken) {
        for (int tile = 0; tile < 4; tile++) {
            unsigned banks = 0;
            for (int line = 0; line < 8; line++) banks |= 1u << brought[tile * 8 + line].word[5];
            if (banks != 0xff) snprintf(grid->fault, sizeof grid->fault, "ldmatrix: eight rows of a tile meet in fewer than all banks");
        }
        for (int lane = 0; lane < 32; lane++)
            for (int tile = 0; tile < 4; tile++) {
                const int line = lane / 4, pair = lane % 4 * 2;
                if (!brought[0].word[4]) {
                    taken[lane].word[tile] = brought[tile * 8 + line].word[pair / 2];
                } else {
                    const auto at = [&](int r, int c) {
                        return reinterpret_cast<const uint16_t*>(brought[tile * 8 + r].word)[c];
                    };
                    taken[lane].word[tile] = at(pair, line) | static_cast<uint32_t>(at(pair + 1, line)) << 16;
                }
            }
    });
    memcpy(to, home.word, 16);
}

const char* run(Body body, void** arguments, const unsigned* grid_of, const unsigned* block_of, size_t shared, uint64_t seed) {
    static char fault[256];
    const unsigned threads = block_of[0] * block_of[1] * block_of[2];
    if (threads == 0 || threads % kWarpLanes || threads > 1024) return "a block is 32 to 1024 threads, in whole warps";
    Grid one;
    grid = &one;
    one.body = body;
    one.arguments = arguments;
    one.fibers.resize(threads);
    one.warps.resize(threads / kWarpLanes);
    static Memory kept{nullptr, free};  // pages once touched serve the next launch
    static unsigned kept_threads = 0;
    if (kept_threads < threads) kept = allocate(kStackBytes * threads), kept_threads = threads;
    one.stacks = kept.get();
    one.shared = allocate(shared);
    one.random = seed;
    one.fault[0] = 0;
    block_size = {block_of[0], block_of[1], block_of[2]};
    grid_size = {grid_of[0], grid_of[1], grid_of[2]};
    bool sound = true;
    for (uint64_t number : in_some_order(static_cast<uint64_t>(grid_of[0]) * grid_of[1] * grid_of[2])) {
        const uint64_t x = grid_of[0], y = grid_of[1];
        block = {static_cast<unsigned>(number % x), static_cast<unsigned>(number / x % y), static_cast<unsigned>(number / (x * y))};
        prepare_block(shared);
        if (!(sound = run_block())) break;
    }
    grid = nullptr;
    if (sound) return nullptr;
    kept_threads = 0;  // fibers that never ended lie there
    memcpy(fault, one.fault, sizeof fault);
    return fault;
}

}  // namespace shim
