// One token through a whole decoder with cached keys and values: a product of one row with every matrix, so it runs
// as fast as the weights come from memory, and one call per token, because at this size calls are what costs.
//
// Large products are shared by the threads, each owning columns (or rows of the head); a column is summed in the order
// of its inputs by whichever thread owns it, so the bits do not depend on their number.
#include <math.h>

#include "ops.h"
#include "vec.h"

namespace KERNELS_ISA {

constexpr float kEpsilonOfNorms = 1e-5f;
constexpr long kWorthSharing = 1 << 17;  // elements of a matrix: below half a MiB a second thread costs more than it saves

// Addresses of one block's weights, in the order of `kernels.decode.BlockWeights`, then its caches.
struct DecodeBlock {
    const float *norm_1_weight, *norm_1_bias, *qkv_weight, *qkv_bias, *out_weight, *out_bias;
    const float *norm_2_weight, *norm_2_bias, *up_weight, *up_bias, *down_weight, *down_bias;
    float *keys, *values;  // (H, D, T), (H, T, D)
};

static void norm_row(float* out, const float* x, const float* weight, const float* bias, long C) {
    float mean = 0;
    if (bias) {
#pragma omp simd reduction(+ : mean)
        for (long c = 0; c < C; c++) mean += x[c];
        mean /= C;
    }
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (long c = 0; c < C; c++) squares += (x[c] - mean) * (x[c] - mean);
    const float rstd = 1.0f / sqrtf(squares / C + kEpsilonOfNorms);
    for (long c = 0; c < C; c++) out[c] = (x[c] - mean) * rstd * weight[c] + (bias ? bias[c] : 0.0f);
}

// Columns [begin, end) of out = x·weight + bias (+ what out holds). Eight rows at a time, so that out stays in a cache
// and the matrix is read once, from its beginning to its end.
static void columns(float* out, const float* x, const float* weight, const float* bias, bool add, long I, long O, long begin, long end) {
    if (add) for (long o = begin; o < end; o++) out[o] += bias[o];
    else for (long o = begin; o < end; o++) out[o] = bias[o];
    long i = 0;
    for (; i + 8 <= I; i += 8) {
        const float* w = weight + i * O;
        const float a = x[i], b = x[i + 1], c = x[i + 2], d = x[i + 3];
        const float e = x[i + 4], f = x[i + 5], g = x[i + 6], h = x[i + 7];
#pragma omp simd
        for (long o = begin; o < end; o++)
            out[o] += ((a * w[o] + b * w[o + O]) + (c * w[o + 2 * O] + d * w[o + 3 * O])) +
                      ((e * w[o + 4 * O] + f * w[o + 5 * O]) + (g * w[o + 6 * O] + h * w[o + 7 * O]));
    }
    for (; i < I; i++) {
        const float* w = weight + i * O;
        const float a = x[i];
#pragma omp simd
        for (long o = begin; o < end; o++) out[o] += a * w[o];
    }
}

static void product(Engine* engine, float* out, const float* x, const float* weight, const float* bias, bool add, long I, long O) {
    const int threads = I * O < kWorthSharing ? 1 : engine->threads;
    if (threads == 1) {
        columns(out, x, weight, bias, add, I, O, 0, O);
        return;
    }
    const long share = round_up(ceil_div(O, threads), 16);  // a cache line has one owner
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long t = 0; t < threads; t++)
        if (t * share < O) columns(out, x, weight, bias, add, I, O, t * share, least(O, (t + 1) * share));
}

static void head_rows(Engine* engine, float* logits, const float* x, const float* head, long V, long C) {
    const int threads = V * C < kWorthSharing ? 1 : engine->threads;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long v = 0; v < V; v++) {
        const float* row = head + v * C;
        float total = 0;
#pragma omp simd reduction(+ : total)
        for (long c = 0; c < C; c++) total += x[c] * row[c];
        logits[v] = total;
    }
}

static void turn(float* part, const float* cosines, const float* sines, long D) {
    const long half_of = D / 2;
    for (long d = 0; d < half_of; d++) {
        const float a = part[d], b = part[d + half_of];
        part[d] = a * cosines[d] - b * sines[d];
        part[d + half_of] = a * sines[d] + b * cosines[d];
    }
}

// One head: its scores over the T positions so far, their softmax, and the mean of the values.
static void attend(float* out, float* scores, const float* query, const float* keys, const float* values, long count, long context, long D) {
    const float scale = 1.0f / sqrtf(static_cast<float>(D));
    for (long t = 0; t < count; t++) scores[t] = 0;
    for (long d = 0; d < D; d++) {
        const float q = query[d] * scale;
        const float* key = keys + d * context;
#pragma omp simd
        for (long t = 0; t < count; t++) scores[t] += q * key[t];
    }
    Vf largest = splat(scores[0]);
    long t = 0;
    for (; t + W <= count; t += W) largest = larger(load(scores + t), largest);
    float most_of = peak(largest);
    for (; t < count; t++) most_of = scores[t] > most_of ? scores[t] : most_of;
    Vf totals = splat(0);
    for (t = 0; t < count; t += W) {
        const Vf e = first_lanes(exponential(load_up_to(scores + t, count - t) - most_of), count - t);
        store_up_to(scores + t, e, count - t);
        totals += e;
    }
    const float share = 1.0f / sum(totals);
    long d = 0;
    for (; d + 2 * W <= D; d += 2 * W) {  // two chains of sums: they wait for each other's additions
        Vf low = splat(0), high = splat(0);
        for (t = 0; t < count; t++) {
            low += scores[t] * load(values + t * D + d);
            high += scores[t] * load(values + t * D + d + W);
        }
        store(out + d, low * share);
        store(out + d + W, high * share);
    }
    for (; d < D; d += W) {
        Vf some = splat(0);
        for (t = 0; t < count; t++) some += scores[t] * load_up_to(values + t * D + d, D - d);
        store_up_to(out + d, some * share, D - d);
    }
}

int decode(Engine* engine, float* logits, const void* blocks_at, const float* table, const float* positions,
           const float* cosines, const float* sines, const float* norm_weight, const float* norm_bias,
           const float* head, int swiglu, long token, long position, long T, long L, long H, long C, long F, long V) {
    const DecodeBlock* blocks = static_cast<const DecodeBlock*>(blocks_at);
    const long D = C / H, P = swiglu ? 2 * F : F;
    float* x = static_cast<float*>(shared_room(engine, sizeof(float) * (C * 6 + P + F + T)));
    if (!x) return kernels::kNoMemory;
    float *normal = x + C, *qkv = normal + C, *attended = qkv + 3 * C, *wide = attended + C;
    float *hidden = wide + P, *scores = hidden + F;
    for (long c = 0; c < C; c++) x[c] = table[token * C + c] + (positions ? positions[position * C + c] : 0.0f);
    for (long l = 0; l < L; l++) {
        const DecodeBlock& b = blocks[l];
        norm_row(normal, x, b.norm_1_weight, b.norm_1_bias, C);
        product(engine, qkv, normal, b.qkv_weight, b.qkv_bias, false, C, 3 * C);
        for (long h = 0; h < H; h++) {
            float *query = qkv + h * D, *key = query + C, *value = key + C;
            if (!positions) {
                turn(query, cosines + position * (D / 2), sines + position * (D / 2), D);
                turn(key, cosines + position * (D / 2), sines + position * (D / 2), D);
            }
            float *keys = b.keys + h * D * T, *values = b.values + h * T * D;
            for (long d = 0; d < D; d++) keys[d * T + position] = key[d];
            for (long d = 0; d < D; d++) values[position * D + d] = value[d];
            attend(attended + h * D, scores, query, keys, values, position + 1, T, D);
        }
        product(engine, x, attended, b.out_weight, b.out_bias, true, C, C);
        norm_row(normal, x, b.norm_2_weight, b.norm_2_bias, C);
        product(engine, wide, normal, b.up_weight, b.up_bias, false, C, P);
        for (long f = 0; f < F; f += W) {
            const Vf u = load_up_to(wide + f, F - f);
            const Vf active = swiglu ? u * sigmoid(u) * load_up_to(wide + F + f, F - f) : gelu(u);
            store_up_to(hidden + f, active, F - f);
        }
        product(engine, x, hidden, b.down_weight, b.down_bias, true, F, C);
    }
    norm_row(normal, x, norm_weight, norm_bias, C);
    head_rows(engine, logits, normal, head, V, C);
    return kernels::kDone;
}

}  // namespace KERNELS_ISA
