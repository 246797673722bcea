// Poly1305 over chunks of an age payload: one warp a chunk.
//
// The tag is a polynomial in r over the 16-byte blocks m[0 … n) of the ciphertext, zero-padded, and one of its
// length: h = Σ m[j] · r^(n-j) mod 2^130 - 5. Lane i of 32 sums the blocks i, i + 32, … by Horner's rule in r^32, the
// blocks counted so that all lanes end together (what is missing in front counts as zero); then each lane's sum
// is multiplied by r^(32-i) and the lanes' sums are added. Numbers are five limbs of 26 bits.
//
// Sources: RFC 8439, sections 2.5 and 2.8 (no additional data); Goll & Gueron 2015, "Vectorization of Poly1305
// Message Authentication Code", for the powers.

#include "device.cuh"

constexpr u64 kSealedChunk = 65552;
constexpr u32 kLimb = 0x3ffffff;

struct Number {
    u32 limb[5];
};

// Carry sums of limbs until each has 26 bits, but for a last bit that the next product leaves room for.
DEVICE Number carried(u64 d0, u64 d1, u64 d2, u64 d3, u64 d4) {
    Number h;
    d1 += d0 >> 26; h.limb[0] = (u32)d0 & kLimb;
    d2 += d1 >> 26; h.limb[1] = (u32)d1 & kLimb;
    d3 += d2 >> 26; h.limb[2] = (u32)d2 & kLimb;
    d4 += d3 >> 26; h.limb[3] = (u32)d3 & kLimb;
    h.limb[4] = (u32)d4 & kLimb;
    const u64 low = (u64)h.limb[0] + (d4 >> 26) * 5;  // 2^130 is 5
    h.limb[0] = (u32)low & kLimb;
    h.limb[1] += (u32)(low >> 26);
    return h;
}

// a · b mod 2^130 - 5. With limbs of a up to 27 bits and of b up to 26 and a few, each sum stays below 2^58.
DEVICE Number product(const Number& a, const Number& b) {
    const u64 a0 = a.limb[0], a1 = a.limb[1], a2 = a.limb[2], a3 = a.limb[3], a4 = a.limb[4];
    const u32 b0 = b.limb[0], b1 = b.limb[1], b2 = b.limb[2], b3 = b.limb[3], b4 = b.limb[4];
    const u32 s1 = b1 * 5, s2 = b2 * 5, s3 = b3 * 5, s4 = b4 * 5;
    return carried(a0 * b0 + a1 * s4 + a2 * s3 + a3 * s2 + a4 * s1,
                   a0 * b1 + a1 * b0 + a2 * s4 + a3 * s3 + a4 * s2,
                   a0 * b2 + a1 * b1 + a2 * b0 + a3 * s4 + a4 * s3,
                   a0 * b3 + a1 * b2 + a2 * b1 + a3 * b0 + a4 * s4,
                   a0 * b4 + a1 * b3 + a2 * b2 + a3 * b1 + a4 * b0);
}

DEVICE void add_words(Number& h, const u32 w[4], u32 top) {
    h.limb[0] += w[0] & kLimb;
    h.limb[1] += ((w[0] >> 26) | (w[1] << 6)) & kLimb;
    h.limb[2] += ((w[1] >> 20) | (w[2] << 12)) & kLimb;
    h.limb[3] += ((w[2] >> 14) | (w[3] << 18)) & kLimb;
    h.limb[4] += (w[3] >> 8) | (top << 24);
}

// Block `index` of what is authenticated: ciphertext, its padded end, or the two lengths.
DEVICE void add_block(Number& h, const u8* text, u64 size, u64 index) {
    u32 w[4] = {0, 0, 0, 0};
    const u64 at = index * 16;
    if (at + 16 <= size) {
        const Words<16> piece = *reinterpret_cast<const Words<16>*>(text + at);
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = piece.word[i];
    } else if (at < size) {
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (at + i < size) w[i / 4] |= (u32)text[at + i] << (8 * (i % 4));
    } else {
        w[2] = (u32)size;  // additional data: none, so eight bytes of zero; then the length of the ciphertext
        w[3] = (u32)(size >> 32);
    }
    add_words(h, w, 1);
}

DEVICE Number clamped(const u32* key) {
    Number r = {{0, 0, 0, 0, 0}};
    const u32 w[4] = {key[0] & 0x0fffffffu, key[1] & 0x0ffffffcu, key[2] & 0x0ffffffcu, key[3] & 0x0ffffffcu};
    add_words(r, w, 0);
    return r;
}

// r^exponent, 1 ≤ exponent ≤ 32: by its bits, from the highest; no branch depends on the key.
DEVICE Number power(const Number& r, u32 exponent) {
    Number result = {{1, 0, 0, 0, 0}};
    for (int bit = 5; bit >= 0; bit--) {
        result = product(result, result);
        if (exponent >> bit & 1) result = product(result, r);
    }
    return result;
}

// (h mod 2^130 - 5) + s mod 2^128, RFC 8439 section 2.5.1, without a branch.
DEVICE void finish(u32 tag[4], Number h, const u32* s) {
    u32 carry = 0;
    for (int turn = 0; turn < 2; turn++) {  // the second turn takes what the first carried around
        h.limb[0] += carry * 5;
        carry = 0;
#pragma unroll
        for (int i = 0; i < 5; i++) {
            h.limb[i] += carry;
            carry = h.limb[i] >> 26;
            h.limb[i] &= kLimb;
        }
    }
    h.limb[0] += carry * 5;
    u32 less[5];  // h + 5 - 2^130, kept if it is not negative
    carry = 5;
#pragma unroll
    for (int i = 0; i < 5; i++) {
        less[i] = h.limb[i] + carry;
        carry = less[i] >> 26;
        less[i] &= kLimb;
    }
    const u32 keep = 0u - carry;
#pragma unroll
    for (int i = 0; i < 5; i++) h.limb[i] = (h.limb[i] & ~keep) | (less[i] & keep);
    const u32 w[4] = {h.limb[0] | h.limb[1] << 26, h.limb[1] >> 6 | h.limb[2] << 20, h.limb[2] >> 12 | h.limb[3] << 14,
                      h.limb[3] >> 18 | h.limb[4] << 8};
    u64 sum = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        sum += (u64)w[i] + s[i];
        tag[i] = (u32)sum;
        sum >>= 32;
    }
}

// The tag of one chunk, in every lane of the warp.
DEVICE void tag_of(u32 tag[4], const u8* text, u64 size, const u32* key) {
    const u32 lane = threadIdx.x & 31;
    const Number r = clamped(key);
    const Number mine = power(r, 32 - lane);
    Number stride;
#pragma unroll
    for (int i = 0; i < 5; i++) stride.limb[i] = __shfl_sync(kAll, mine.limb[i], 0);
    const u64 blocks = (size + 15) / 16 + 1;
    const u64 turns = (blocks + 31) / 32, missing = turns * 32 - blocks;
    Number h = {{0, 0, 0, 0, 0}};
    for (u64 turn = 0; turn < turns; turn++) {
        h = product(h, stride);
        const u64 index = turn * 32 + lane;
        if (index >= missing) add_block(h, text, size, index - missing);
    }
    h = product(h, mine);
    u64 sum[5];
#pragma unroll
    for (int i = 0; i < 5; i++) {
        sum[i] = h.limb[i];
        for (int far = 16; far; far >>= 1) sum[i] += __shfl_xor_sync(kAll, sum[i], far);
    }
    finish(tag, carried(sum[0], sum[1], sum[2], sum[3], sum[4]), key + 4);
}

// Say for each of `count` chunks of a slice whether its tag does not fit. `size` is the slice's size in bytes; keys are
// what chacha20.cu derived for them.
KERNEL(128) poly1305_verify(u32* refused, const u8* sealed, const u32* keys, u64 count, u64 size) {
    const u64 chunk = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (chunk >= count) return;
    const u8* text = sealed + chunk * kSealedChunk;
    const u64 rest = size - chunk * kSealedChunk;
    const u64 length = (rest < kSealedChunk ? rest : kSealedChunk) - 16;
    u32 tag[4];
    tag_of(tag, text, length, keys + chunk * 8);
    u32 difference = 0;
#pragma unroll
    for (int i = 0; i < 16; i++) difference |= (u32)(text[length + i] ^ (u8)(tag[i / 4] >> (8 * (i % 4))));
    if ((threadIdx.x & 31) == 0) refused[chunk] = difference;
}

// Put a tag behind each of `count` chunks of ciphertext.
KERNEL(128) poly1305_seal(u8* sealed, const u32* keys, u64 count, u64 size) {
    const u64 chunk = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (chunk >= count) return;
    u8* text = sealed + chunk * kSealedChunk;
    const u64 rest = size - chunk * kSealedChunk;
    const u64 length = (rest < kSealedChunk ? rest : kSealedChunk) - 16;
    u32 tag[4];
    tag_of(tag, text, length, keys + chunk * 8);
    const u32 lane = threadIdx.x & 31;
    if (lane < 16) text[length + lane] = (u8)(tag[lane / 4] >> (8 * (lane % 4)));
}
