// What one backend object owns: how many threads compute, and the room they pack their operands into.
//
// Room grows between calls, never inside a parallel region, and is kept: after the first step of a run nothing is
// allocated. `growths` counts how often it grew, so that a test can hold this to its word.
#pragma once

#include <stddef.h>

namespace kernels {

constexpr int kMaxThreads = 256;

struct Room {
    void* data;
    size_t bytes;
};

struct Engine {
    int threads;
    long growths;
    Room shared;               // one for all threads: packed matrices, partial sums
    Room local[kMaxThreads];   // one per thread: tiles that stay in its cache
};

// Both give memory aligned to 64 bytes, with contents undefined, valid until the next call of the same function.
// They return null, or false, when there is none to be had.
void* shared_room(Engine* engine, size_t bytes);
bool local_rooms(Engine* engine, size_t bytes);

enum Outcome { kDone = 0, kNoMemory = 1 };

// One op of one instruction set, by its name in the table of ops.
struct Entry {
    const char* name;
    void* function;
};

}  // namespace kernels
