// Room for packed operands, and the C interface that Python loads: open an engine, look an op up, close.
#include "engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "isa.h"

namespace kernels {

static bool grow(Engine* engine, Room* room, size_t bytes) {
    if (room->bytes >= bytes) return true;
    constexpr size_t kPage = 2 << 20;  // whole huge pages, where the kernel gives them: fewer misses of the TLB
    const size_t wanted = (bytes + kPage - 1) / kPage * kPage;
    void* fresh = aligned_alloc(kPage, wanted);
    if (!fresh) return false;
    madvise(fresh, wanted, MADV_HUGEPAGE);
    free(room->data);
    *room = {fresh, wanted};
    engine->growths++;
    return true;
}

void* shared_room(Engine* engine, size_t bytes) {
    return grow(engine, &engine->shared, bytes) ? engine->shared.data : nullptr;
}

bool local_rooms(Engine* engine, size_t bytes) {
    for (int thread = 0; thread < engine->threads; thread++)
        if (!grow(engine, &engine->local[thread], bytes)) return false;
    return true;
}

}  // namespace kernels

using kernels::Engine;

#define EXPORT extern "C" __attribute__((visibility("default")))

// The instruction sets that this library holds and this processor has, best first; null ends the list.
EXPORT const char* kernels_isa(int index) {
    int seen = 0;
    for (const kernels::Isa& isa : kernels::kIsas)
        if (isa.is_here() && seen++ == index) return isa.name;
    return nullptr;
}

// The address of an op of an instruction set, null where there is none.
EXPORT void* kernels_op(const char* isa_name, const char* op) {
    for (const kernels::Isa& isa : kernels::kIsas) {
        if (strcmp(isa.name, isa_name) != 0) continue;
        for (const kernels::Entry* entry = isa.ops; entry->name; entry++)
            if (strcmp(entry->name, op) == 0) return entry->function;
    }
    return nullptr;
}

EXPORT Engine* kernels_open(int threads) {
    if (threads < 1 || threads > kernels::kMaxThreads) return nullptr;
    Engine* engine = static_cast<Engine*>(calloc(1, sizeof(Engine)));
    if (engine) engine->threads = threads;
    return engine;
}

EXPORT void kernels_close(Engine* engine) {
    free(engine->shared.data);
    for (int thread = 0; thread < engine->threads; thread++) free(engine->local[thread].data);
    free(engine);
}

// How often room had to be allocated since the engine was opened.
EXPORT long kernels_growths(const Engine* engine) { return engine->growths; }
