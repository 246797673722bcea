// Packing: the factors of a product laid out as the tile loop reads them, rounded to bf16 on the way where asked.
#include "pack.h"

namespace KERNELS_ISA {

template <typename T>
INLINE Vu pair(const T* even, const T* odd, long n) {  // n columns of two neighbouring rows, as bf16 pairs
    return round_bits(load_up_to(even, n)) | (odd ? round_bits(load_up_to(odd, n)) << 16 : Vu{});
}

// A row of B is contiguous: whole vectors at a time.
template <typename T>
static void pack_rows(float* panel, const T* b, long step, long count, long columns, bool half_pairs) {
    for (long k = 0; k < count; k += half_pairs ? 2 : 1, panel += kColumns) {
        const T* row = b + k * step;
        for (long c = 0; c < kColumns; c += W) {
            const long n = columns - c;
            Vf v{};
            if (n > 0) v = half_pairs ? (Vf)pair(row + c, k + 1 < count ? row + step + c : nullptr, n) : load_up_to(row + c, n);
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

// A column of B is contiguous: its elements go down the panel.
template <typename T>
static void pack_turned(float* panel, const T* b, long step, long count, long columns, bool half_pairs) {
    const long units = units_of(count, half_pairs);
    for (long c = 0; c < kColumns; c++) {
        const T* column = b + c * step;
        for (long u = 0; u < units; u++) {
            float v = 0;
            if (c < columns) v = half_pairs ? two(column + 2 * u, 2 * u + 1 < count ? column + 2 * u + 1 : nullptr) : get(column + u);
            panel[u * kColumns + c] = v;
        }
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

// Columns of A along M: groups of kRows of them, unit after unit, as a tile reads them.
template <typename T>
static void turn_rows(float* block, const T* a, long step, long rows, long count, bool half_pairs) {
    const long units = units_of(count, half_pairs);
    for (long r0 = 0; r0 < rows; r0 += kRows, block += units * kRows) {
        const long n = least(kRows, rows - r0);
        float* to = block;
        for (long k = 0; k < count; k += half_pairs ? 2 : 1, to += kRows) {
            const T* even = a + k * step + r0;
            const T* odd = k + 1 < count ? even + step : nullptr;
            for (long r = 0; r < n; r++) to[r] = half_pairs ? two(even + r, odd ? odd + r : nullptr) : get(even + r);
        }
    }
}

template <typename T>
static void pack_rows_of_a(float* block, const Matrix& a, long r0, long rows, long k0, long count, bool half_pairs) {
    const T* from = at<T>(a, r0, k0);
    if (a.column_step == 1) copy_rows(block, from, a.row_step, rows, count, half_pairs);
    else turn_rows(block, from, a.column_step, rows, count, half_pairs);
}

Left left_block(float* room, const Matrix& a, long r0, long rows, long k0, long count, bool in_half) {
    const bool half_pairs = packs_half(in_half);
    const long units = units_of(count, half_pairs);
    const bool as_it_is = a.column_step == 1 && a.is_half == half_pairs && !(half_pairs && (count % 2 || a.row_step % 2));
    if (as_it_is) {
        const float* data = half_pairs ? reinterpret_cast<const float*>(at<half>(a, r0, k0)) : at<float>(a, r0, k0);
        const long step = half_pairs ? a.row_step / 2 : a.row_step;
        return {data, step, 1, step * kRows};
    }
    if (a.is_half) pack_rows_of_a<half>(room, a, r0, rows, k0, count, half_pairs);
    else pack_rows_of_a<float>(room, a, r0, rows, k0, count, half_pairs);
    if (a.column_step == 1) return {room, units, 1, units * kRows};
    return {room, 1, kRows, units * kRows};
}

}  // namespace KERNELS_ISA
