// Causal attention, one head of one sequence per task: tiles of queries against all keys before them.
//
// Only what the mask leaves is computed: a group of kRows queries sees whole panels of keys up to its last query. The
// backward draws the probabilities anew from the saved log-sum-exp (Dao et al. 2022, "FlashAttention", section 3.1
// and appendix B.2). Scores and sums are float32; the factors of the products are of the type of qkv.
//
// Shapes: T time, D channels of a head, Q = kQueries. A row of keys has `row` places, T rounded up to whole panels.
#include <math.h>
#include <omp.h>

#include "linear.h"
#include "ops.h"
#include "pack.h"

namespace KERNELS_ISA {

constexpr long kQueries = 8 * kRows;  // queries in a tile: at T = 256 its scores take 48 KiB

struct Shape {
    long T, C, H, D, row, width;  // width: D rounded up to whole panels
    bool in_half, packed;

    long units(long count) const { return units_of(count, packed); }
};

static Shape shape_of(long T, long C, long H, bool in_half) {
    const long D = C / H;
    return {T, C, H, D, round_up(T, kColumns) + kColumns, round_up(D, kColumns), in_half, packs_half(in_half)};
}

// A right factor (count, columns), packed whole.
struct Panels {
    const float* data;
    long units;
    const float* of(long column) const { return data + column / kColumns * units * kColumns; }
};

INLINE float* carve(float*& room, long count) {
    float* start = room;
    room += round_up(count, 16);
    return start;
}

static Panels pack_all(const Shape& s, float* data, const Matrix& b, long k0, long count, long columns) {
    const Panels panels = {data, s.units(count)};
    for (long c = 0; c < columns; c += kColumns)
        pack_columns(data + c / kColumns * panels.units * kColumns, b, k0, count, c, least(kColumns, columns - c), s.in_half);
    return panels;
}

// out (rows, row) = left·panels for the keys that each group of queries may see.
static void score(const Shape& s, float* out, const Left& left, const Panels& panels, long q0, long rows) {
    for (long r0 = 0; r0 < rows; r0 += kRows) {
        const long n = least(kRows, rows - r0), seen = q0 + r0 + n;
        for (long c = 0; c < seen; c += kColumns)
            tile_for(n, least(kColumns, s.T - c), s.in_half)(panels.units, left.data + r0 / kRows * left.group_step, left.row_step,
                                                             left.unit_step, panels.of(c), out + r0 * s.row + c, s.row, false);
    }
}

// out (rows, width) = a·panels over the keys before the last query of each group; a (rows, row) of floats or bf16.
static void weigh(const Shape& s, float* out, const float* a, const Panels& panels, long q0, long rows) {
    const long step = s.packed ? s.row / 2 : s.row;
    for (long r0 = 0; r0 < rows; r0 += kRows) {
        const long n = least(kRows, rows - r0), units = s.units(q0 + r0 + n);
        for (long c = 0; c < s.D; c += kColumns)
            tile_for(n, least(kColumns, s.D - c), s.in_half)(units, a + r0 * step, step, 1, panels.of(c), out + r0 * s.width + c,
                                                             s.width, false);
    }
}

// sums (T, width) += aᵀ·panels: a key gets from the queries of this tile that see it. `a` lies query by query; as bf16,
// two queries of a key are neighbours.
static void gather(const Shape& s, float* sums, const float* a, const Panels& panels, long q0, long rows) {
    const long stop = q0 + rows;
    for (long key = 0; key < stop; key += kRows) {
        const long n = least(kRows, stop - key), first = most(0, key - q0) / 2 * 2;
        const long skipped = s.units(first), units = panels.units - skipped;
        for (long c = 0; c < s.D; c += kColumns)
            tile_for(n, least(kColumns, s.D - c), s.in_half)(units, a + skipped * s.row + key, 1, s.row,
                                                             panels.of(c) + skipped * kColumns, sums + key * s.width + c,
                                                             s.width, true);
    }
}

template <typename T>
INLINE void write_rows(T* out, long step, const float* from, long width, long rows, long columns, const float* scales) {
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < columns; c += W)
            store_up_to(out + r * step + c, load(from + r * width + c) * (scales ? scales[r] : 1.0f), columns - c);
}

// scores (row) of query q become e^(scale·(score - peak)), zero after q; returns 1/Σ and sets lse.
template <typename P>
INLINE float soften(P* chance, const float* scores, long q, long stop, float scale, float* lse) {
    const long count = q + 1;
    Vf best = splat(-INFINITY), total{};
    for (long c = 0; c < count; c += W) best = larger(pick(lane_numbers() < (int)least(W, count - c), load(scores + c), best), best);
    const float top = peak(best);
    long c = 0;
    for (; c < count; c += W) {
        const Vf e = first_lanes(exponential((load(scores + c) - top) * scale), count - c);
        total += e;
        store(chance + c, e);
    }
    for (; c < stop; c += W) store(chance + c, Vf{});
    const float whole = sum(total);
    *lse = top * scale + logf(whole);
    return 1.0f / whole;
}

template <typename T, typename P>
static void forward_head(const Shape& s, float* room, T* out, float* lse, const T* qkv) {
    const bool is_half = sizeof(T) == 2;
    const Matrix q = {qkv, 3 * s.C, 1, is_half}, k = {qkv + s.C, 3 * s.C, 1, is_half}, v = {qkv + 2 * s.C, 3 * s.C, 1, is_half};
    const Panels keys = pack_all(s, carve(room, s.units(s.D) * s.row), turned(k), 0, s.D, s.T);
    const Panels values = pack_all(s, carve(room, s.units(s.T) * s.width), v, 0, s.T, s.D);
    float* scores = carve(room, kQueries * s.row);
    float* chance = carve(room, kQueries * s.row);
    float* result = carve(room, kQueries * s.width);
    const float scale = 1.0f / sqrtf(static_cast<float>(s.D));
    for (long q0 = 0; q0 < s.T; q0 += kQueries) {
        const long rows = least(kQueries, s.T - q0);
        float inverse[kQueries];
        score(s, scores, left_block(room, q, q0, rows, 0, s.D, 0, s.in_half), keys, q0, rows);
        for (long r = 0; r < rows; r++)
            inverse[r] = soften(reinterpret_cast<P*>(chance) + r * s.row, scores + r * s.row, q0 + r, q0 + rows + 1, scale, lse + q0 + r);
        weigh(s, result, chance, values, q0, rows);
        write_rows(out + q0 * s.C, s.C, result, s.width, rows, s.D, inverse);
    }
}

// What one row of the backward needs, and what it leaves: chance = e^(scale·score - lse),
// slope = chance·(dchance - delta)·scale.
INLINE void bend(const float* scores, const float* dchance, long c, long q, float scale, float lse, float delta, Vf& chance, Vf& slope) {
    const long seen = q + 1 - c;
    chance = first_lanes(exponential(load(scores + c) * scale - lse), seen);
    slope = first_lanes(chance * (load(dchance + c) - delta) * scale, seen);
}

// scores and dchance (rows, row) become chance and slope, in place, zero after the query up to `stop`.
static void bend_rows(const Shape& s, float* scores, float* dchance, long q0, long rows, long stop, float scale, const float* lse, const float* delta) {
    for (long r = 0; r < rows; r++)
        for (long c = 0; c < stop; c += W) {
            Vf chance, slope;
            bend(scores + r * s.row, dchance + r * s.row, c, q0 + r, scale, lse[r], delta[r], chance, slope);
            store(scores + r * s.row + c, chance);
            store(dchance + r * s.row + c, slope);
        }
}

// The same in bf16, two queries at a time: in pairs for the products that sum over queries (written over the scores
// and dchance of the even query), and slope row by row for the one that sums over keys.
static void bend_pairs(const Shape& s, float* scores, float* dchance, half* slopes, long q0, long rows, long stop, float scale, const float* lse,
                       const float* delta) {
    for (long r = 0; r < rows; r += 2) {
        const bool both = r + 1 < rows;
        float* to_chance = scores + r / 2 * s.row;
        float* to_slope = dchance + r / 2 * s.row;
        for (long c = 0; c < stop; c += W) {
            Vf chance[2] = {}, slope[2] = {};
            for (long i = 0; i <= both; i++) {
                bend(scores + (r + i) * s.row, dchance + (r + i) * s.row, c, q0 + r + i, scale, lse[r + i], delta[r + i], chance[i], slope[i]);
                store(slopes + (r + i) * s.row + c, slope[i]);
            }
            store(to_chance + c, (Vf)pairs(chance[0], chance[1]));
            store(to_slope + c, (Vf)pairs(slope[0], slope[1]));
        }
    }
}

template <typename T>
INLINE float dot(const T* a, const T* b, long n) {
    Vf total{};
    for (long c = 0; c < n; c += W) total += load_up_to(a + c, n - c) * load_up_to(b + c, n - c);
    return sum(total);
}

template <typename T>
static void backward_head(const Shape& s, float* room, T* dqkv, const T* dout, const T* out, const float* lse, const T* qkv) {
    const bool is_half = sizeof(T) == 2;
    const Matrix q = {qkv, 3 * s.C, 1, is_half}, k = {qkv + s.C, 3 * s.C, 1, is_half}, v = {qkv + 2 * s.C, 3 * s.C, 1, is_half};
    const Matrix d = {dout, s.C, 1, is_half};
    const Panels keys = pack_all(s, carve(room, s.units(s.D) * s.row), turned(k), 0, s.D, s.T);
    const Panels values = pack_all(s, carve(room, s.units(s.D) * s.row), turned(v), 0, s.D, s.T);
    const Panels key_rows = pack_all(s, carve(room, s.units(s.T) * s.width), k, 0, s.T, s.D);
    float* query_room = carve(room, kQueries * s.width);
    float* dout_room = carve(room, kQueries * s.width);
    float* scores = carve(room, kQueries * s.row);
    float* dchance = carve(room, kQueries * s.row);
    float* slopes = carve(room, kQueries * s.row);
    float* result = carve(room, kQueries * s.width);
    float* dkey = carve(room, s.row * s.width);
    float* dvalue = carve(room, s.row * s.width);
    memset(dkey, 0, s.row * s.width * 4);
    memset(dvalue, 0, s.row * s.width * 4);
    const float scale = 1.0f / sqrtf(static_cast<float>(s.D));
    for (long q0 = 0; q0 < s.T; q0 += kQueries) {
        const long rows = least(kQueries, s.T - q0), stop = round_up(q0 + rows + kRows, W);
        score(s, scores, left_block(room, q, q0, rows, 0, s.D, 0, s.in_half), keys, q0, rows);
        score(s, dchance, left_block(room, d, q0, rows, 0, s.D, 0, s.in_half), values, q0, rows);
        float delta[kQueries];
        for (long r = 0; r < rows; r++) delta[r] = dot(dout + (q0 + r) * s.C, out + (q0 + r) * s.C, s.D);
        if (s.packed) bend_pairs(s, scores, dchance, reinterpret_cast<half*>(slopes), q0, rows, stop, scale, lse + q0, delta);
        else bend_rows(s, scores, dchance, q0, rows, stop, scale, lse + q0, delta);
        weigh(s, result, s.packed ? slopes : dchance, key_rows, q0, rows);
        write_rows(dqkv + q0 * 3 * s.C, 3 * s.C, result, s.width, rows, s.D, nullptr);
        gather(s, dvalue, scores, pack_all(s, dout_room, d, q0, rows, s.D), q0, rows);
        gather(s, dkey, dchance, pack_all(s, query_room, q, q0, rows, s.D), q0, rows);
    }
    write_rows(dqkv + s.C, 3 * s.C, dkey, s.width, s.T, s.D, nullptr);
    write_rows(dqkv + 2 * s.C, 3 * s.C, dvalue, s.width, s.T, s.D, nullptr);
}

static size_t forward_room(const Shape& s) {
    return 4 * (s.units(s.D) * s.row + s.units(s.T) * s.width + kQueries * (2 * s.row + 2 * s.width) + 512);
}

static size_t backward_room(const Shape& s) {
    return 4 * (2 * s.units(s.D) * s.row + s.units(s.T) * s.width + kQueries * (3 * s.row + 4 * s.width) + 2 * s.row * s.width + 512);
}

template <typename T, typename P>
static void forward(Engine* engine, const Shape& s, T* out, float* lse, const T* qkv, long B) {
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(dynamic, 1)
    for (long b = 0; b < B; b++)
        for (long h = 0; h < s.H; h++)
            forward_head<T, P>(s, static_cast<float*>(engine->local[omp_get_thread_num()].data), out + b * s.T * s.C + h * s.D,
                               lse + (b * s.H + h) * s.T, qkv + b * s.T * 3 * s.C + h * s.D);
}

template <typename T>
static void backward(Engine* engine, const Shape& s, T* dqkv, const T* dout, const T* out, const float* lse, const T* qkv, long B) {
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(dynamic, 1)
    for (long b = 0; b < B; b++)
        for (long h = 0; h < s.H; h++) {
            const long rows = b * s.T * s.C + h * s.D, wide = b * s.T * 3 * s.C + h * s.D;
            backward_head<T>(s, static_cast<float*>(engine->local[omp_get_thread_num()].data), dqkv + wide, dout + rows, out + rows,
                             lse + (b * s.H + h) * s.T, qkv + wide);
        }
}

int attention_forward(Engine* engine, void* out, float* lse, const void* qkv, int is_half, long B, long T, long C, long H) {
    const Shape s = shape_of(T, C, H, is_half != 0);
    if (!local_rooms(engine, forward_room(s))) return kernels::kNoMemory;
    if (s.packed) forward<half, half>(engine, s, static_cast<half*>(out), lse, static_cast<const half*>(qkv), B);
    else if (is_half) forward<half, float>(engine, s, static_cast<half*>(out), lse, static_cast<const half*>(qkv), B);
    else forward<float, float>(engine, s, static_cast<float*>(out), lse, static_cast<const float*>(qkv), B);
    return kernels::kDone;
}

int attention_backward(Engine* engine, void* dqkv, const void* dout, const void* out, const float* lse, const void* qkv,
                       int is_half, long B, long T, long C, long H) {
    const Shape s = shape_of(T, C, H, is_half != 0);
    if (!local_rooms(engine, backward_room(s))) return kernels::kNoMemory;
    if (is_half)
        backward<half>(engine, s, static_cast<half*>(dqkv), static_cast<const half*>(dout), static_cast<const half*>(out), lse,
                       static_cast<const half*>(qkv), B);
    else
        backward<float>(engine, s, static_cast<float*>(dqkv), static_cast<const float*>(dout), static_cast<const float*>(out), lse,
                        static_cast<const float*>(qkv), B);
    return kernels::kDone;
}

}  // namespace KERNELS_ISA
