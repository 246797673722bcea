// Packing: the factors of a product laid out as the tile loop reads them, rounded to bf16 on the way where asked.
#include "pack.h"

namespace KERNELS_ISA {

// n columns of two neighbouring rows (odd may be null: zeros), as bf16 pairs.
INLINE Vu row_pairs(const float* even, const float* odd, long n) {
    return pairs(load_up_to(even, n), odd ? load_up_to(odd, n) : Vf{});
}
INLINE Vu row_pairs(const half* even, const half* odd, long n) {
    Vh low{}, high{};
    memcpy(&low, even, 2 * least(n, W));
    if (odd) memcpy(&high, odd, 2 * least(n, W));
    return __builtin_convertvector(low, Vu) | __builtin_convertvector(high, Vu) << 16;
}

// A row of B is contiguous: whole vectors at a time.
template <typename T>
static void pack_rows(float* panel, const T* b, long step, long count, long columns, bool half_pairs) {
    for (long k = 0; k < count; k += half_pairs ? 2 : 1, panel += kColumns) {
        const T* row = b + k * step;
        for (long c = 0; c < kColumns; c += W) {
            const long n = columns - c;
            Vf v{};
            if (n > 0) v = half_pairs ? (Vf)row_pairs(row + c, k + 1 < count ? row + step + c : nullptr, n) : load_up_to(row + c, n);
            store(panel + c, v);
        }
    }
}

INLINE uint32_t half_bits(const half* p) { return *p; }
INLINE uint32_t half_bits(const float* p) {  // scalar twin of round_bits
    uint32_t u;
    memcpy(&u, p, 4);
    return *p == *p ? (u + 0x7fffu + ((u >> 16) & 1u)) >> 16 : u >> 16 | 0x40u;
}
INLINE float as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// Two neighbours along K as one bf16 pair.
template <typename T>
INLINE float two(const T* even, const T* odd) {
    return as_float(half_bits(even) | (odd ? half_bits(odd) << 16 : 0));
}

// W units of K of one column, `left` elements of it at hand.
INLINE Vf column_units(const float* p, long left, bool half_pairs) {
    if (!half_pairs) return load_up_to(p, left);
#if KERNELS_BF16_DOT
    const Vf low = load_up_to(p, left), high = left > W ? load_up_to(p + W, left - W) : Vf{};
    return (Vf)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
#else
    return Vf{};  // pairs are packed only for processors that multiply them
#endif
}
INLINE Vf column_units(const half* p, long left, bool half_pairs) {
    if (!half_pairs) return load_up_to(p, left);
    Vf both{};
    memcpy(&both, p, 2 * least(left, 2 * W));
    return both;
}

// A column of B is contiguous: W columns are read W units at a time, and turned.
template <typename T>
static void pack_turned(float* panel, const T* b, long step, long count, long columns, bool half_pairs) {
    const long units = units_of(count, half_pairs), per_unit = half_pairs ? 2 : 1;
    for (long c0 = 0; c0 < kColumns; c0 += W)
        for (long u0 = 0; u0 < units; u0 += W) {
            Vf block[W];
            for (long c = 0; c < W; c++) {
                const long k = u0 * per_unit;
                block[c] = c0 + c < columns ? column_units(b + (c0 + c) * step + k, count - k, half_pairs) : Vf{};
            }
            transpose(block);
            for (long u = 0; u < least(W, units - u0); u++) store(panel + (u0 + u) * kColumns + c0, block[u]);
        }
}

template <typename T>
INLINE const T* at(const Matrix& m, long row, long column) {
    return static_cast<const T*>(m.data) + row * m.row_step + column * m.column_step;
}

template <typename T>
static void pack_columns_of(float* panel, const Matrix& b, long k0, long count, long c0, long columns, bool half_pairs) {
    const T* from = at<T>(b, k0, c0);
    if (b.column_step == 1) pack_rows(panel, from, b.row_step, count, columns, half_pairs);
    else pack_turned(panel, from, b.column_step, count, columns, half_pairs);
}

void pack_columns(float* panel, const Matrix& b, long k0, long count, long c0, long columns, bool in_half) {
    if (b.is_half) pack_columns_of<half>(panel, b, k0, count, c0, columns, packs_half(in_half));
    else pack_columns_of<float>(panel, b, k0, count, c0, columns, packs_half(in_half));
}

// Rows of A that lie along K: copied side by side, rounded where asked.
template <typename T>
static void copy_rows(float* block, const T* a, long step, long rows, long count, bool half_pairs) {
    const long units = units_of(count, half_pairs);
    for (long r = 0; r < rows; r++, block += units, a += step) {
        if (!half_pairs) {
            for (long k = 0; k < count; k += W) store_up_to(block + k, load_up_to(a + k, count - k), count - k);
            continue;
        }
        half* to = reinterpret_cast<half*>(block);
        for (long k = 0; k < count; k += W) store_up_to(to + k, load_up_to(a + k, count - k), count - k);
        if (count % 2) to[count] = 0;
    }
}

INLINE float unit(const float* even, const float* odd, bool half_pairs) { return half_pairs ? two(even, odd) : *even; }
INLINE float unit(const half* even, const half* odd, bool half_pairs) {
    return half_pairs ? two(even, odd) : widen_one(*even);
}

typedef uint16_t Eight __attribute__((vector_size(16)));
typedef uint32_t EightWide __attribute__((vector_size(32)));

// Eight neighbours of one or two rows at once: a group and the start of the next, which overwrites it.
INLINE void eight_units(float* to, const float* even, const float*, bool) { memcpy(to, even, 32); }
INLINE void eight_units(float* to, const half* even, const half* odd, bool half_pairs) {
    Eight low, high{};
    memcpy(&low, even, 16);
    if (odd) memcpy(&high, odd, 16);
    EightWide wide = __builtin_convertvector(low, EightWide);
    wide = half_pairs ? wide | __builtin_convertvector(high, EightWide) << 16 : wide << 16;
    memcpy(to, &wide, 32);
}

// Columns of A along M: groups of kRows of them, unit after unit, as a tile reads them. `beyond` more elements can be
// read after the last row's.
template <typename T>
static void turn_rows(float* block, const T* a, long step, long rows, long count, long beyond, bool half_pairs) {
    const long units = units_of(count, half_pairs);
    const bool by_eight = sizeof(T) == 2 || !half_pairs;
    for (long r0 = 0; r0 < rows; r0 += kRows, block += units * kRows) {
        const long n = least(kRows, rows - r0);
        float* to = block;
        for (long k = 0; k < count; k += half_pairs ? 2 : 1, to += kRows) {
            const T* even = a + k * step + r0;
            const T* odd = half_pairs && k + 1 < count ? even + step : nullptr;
            if (by_eight && r0 + 8 <= rows + beyond) eight_units(to, even, odd, half_pairs);
            else for (long r = 0; r < n; r++) to[r] = unit(even + r, odd ? odd + r : nullptr, half_pairs);
        }
    }
}

template <typename T>
static void pack_rows_of_a(float* block, const Matrix& a, long r0, long rows, long k0, long count, long beyond,
                           bool half_pairs) {
    const T* from = at<T>(a, r0, k0);
    if (a.column_step == 1) copy_rows(block, from, a.row_step, rows, count, half_pairs);
    else turn_rows(block, from, a.column_step, rows, count, beyond, half_pairs);
}

Left left_block(float* room, const Matrix& a, long r0, long rows, long k0, long count, long beyond,
                bool in_half) {
    const bool half_pairs = packs_half(in_half);
    const long units = units_of(count, half_pairs);
    const bool as_it_is = a.column_step == 1 && a.is_half == half_pairs && !(half_pairs && (count % 2 || a.row_step % 2));
    if (as_it_is) {
        const float* data = half_pairs ? reinterpret_cast<const float*>(at<half>(a, r0, k0)) : at<float>(a, r0, k0);
        const long step = half_pairs ? a.row_step / 2 : a.row_step;
        return {data, step, 1, step * kRows};
    }
    if (a.is_half) pack_rows_of_a<half>(room, a, r0, rows, k0, count, beyond, half_pairs);
    else pack_rows_of_a<float>(room, a, r0, rows, k0, count, beyond, half_pairs);
    if (a.column_step == 1) return {room, units, 1, units * kRows};
    return {room, 1, kRows, units * kRows};
}

}  // namespace KERNELS_ISA
