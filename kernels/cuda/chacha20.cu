// ChaCha20 over chunks of an age payload: keystream, exclusive-or, and the one-time keys of Poly1305.
//
// A chunk is 64 KiB of plaintext (the last may be shorter) and lies sealed in 65,552 bytes, its tag behind it.
// Its nonce is its number and whether it is the last. Every block of 64 bytes follows from key, nonce and its own
// number, so all are computed at once: one thread a block. A slice is a run of chunks in device memory; its
// plaintext bytes are counted from its first chunk. A segment is a range of them and where it lies in clear.
//
// Sources: RFC 8439, sections 2.3, 2.4 and 2.6; c2sp.org/age, "Payload".

#include "device.cuh"

constexpr u64 kPlainChunk = 65536;
constexpr u64 kSealedChunk = 65552;

DEVICE u32 rotate(u32 x, int bits) { return (x << bits) | (x >> (32 - bits)); }

DEVICE u32 reversed(u32 x) {
    return (x << 24) | ((x & 0xff00u) << 8) | ((x >> 8) & 0xff00u) | (x >> 24);
}

DEVICE void quarter(u32& a, u32& b, u32& c, u32& d) {
    a += b; d = rotate(d ^ a, 16);
    c += d; b = rotate(b ^ c, 12);
    a += b; d = rotate(d ^ a, 8);
    c += d; b = rotate(b ^ c, 7);
}

// RFC 8439, section 2.3: block `counter` of the keystream of one chunk.
DEVICE void keystream(u32 out[16], const u32* key, u64 chunk, bool ends, u32 counter) {
    u32 start[16];
    start[0] = 0x61707865u; start[1] = 0x3320646eu; start[2] = 0x79622d32u; start[3] = 0x6b206574u;
#pragma unroll
    for (int i = 0; i < 8; i++) start[4 + i] = key[i];
    start[12] = counter;
    start[13] = (u32)(chunk >> 56) << 24;  // the nonce: 11 bytes of the chunk's number, big-endian, and a flag
    start[14] = reversed((u32)(chunk >> 24));
    start[15] = reversed((u32)(chunk << 8) | (ends ? 1u : 0u));
#pragma unroll
    for (int i = 0; i < 16; i++) out[i] = start[i];
#pragma unroll
    for (int round = 0; round < 10; round++) {
        quarter(out[0], out[4], out[8], out[12]);
        quarter(out[1], out[5], out[9], out[13]);
        quarter(out[2], out[6], out[10], out[14]);
        quarter(out[3], out[7], out[11], out[15]);
        quarter(out[0], out[5], out[10], out[15]);
        quarter(out[1], out[6], out[11], out[12]);
        quarter(out[2], out[7], out[8], out[13]);
        quarter(out[3], out[4], out[9], out[14]);
    }
#pragma unroll
    for (int i = 0; i < 16; i++) out[i] += start[i];
}

// Write bytes [from, to) of a block to `out`, which stands for byte 0 of it: `in` exclusive-or keystream, or zeros.
DEVICE void apply(u8* out, const u8* in, const u32 stream[16], u32 from, u32 to, bool clear) {
    const bool whole = from == 0 && to == 64;
    if (whole && (((u64)out | (u64)in) & 15) == 0) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            Words<16> piece = reinterpret_cast<const Words<16>*>(in)[i];
#pragma unroll
            for (int j = 0; j < 4; j++) piece.word[j] = clear ? 0u : piece.word[j] ^ stream[4 * i + j];
            reinterpret_cast<Words<16>*>(out)[i] = piece;
        }
        return;
    }
    if (whole && (((u64)out | (u64)in) & 3) == 0) {
#pragma unroll
        for (int i = 0; i < 16; i++)
            reinterpret_cast<u32*>(out)[i] = clear ? 0u : reinterpret_cast<const u32*>(in)[i] ^ stream[i];
        return;
    }
#pragma unroll
    for (int i = 0; i < 64; i++) {
        const u8 mask = (u8)(stream[i / 4] >> (8 * (i % 4)));
        if ((u32)i >= from && (u32)i < to) out[i] = clear ? (u8)0 : (u8)(in[i] ^ mask);
    }
}

// The block of 64 plaintext bytes that this thread computes, and which of them the segment [begin, begin + size) has.
struct Block {
    u64 chunk;   // within the slice
    u32 number;  // within the chunk
    u64 start;   // plaintext byte of the slice
    u32 from, to;
};

DEVICE bool block_of(Block& block, u64 begin, u64 size) {
    const u64 index = begin / 64 + (u64)blockIdx.x * blockDim.x + threadIdx.x;
    block.start = index * 64;
    const u64 end = begin + size;
    if (block.start >= end) return false;
    block.chunk = block.start / kPlainChunk;
    block.number = (u32)(block.start % kPlainChunk / 64);
    block.from = block.start < begin ? (u32)(begin - block.start) : 0u;
    block.to = end - block.start < 64 ? (u32)(end - block.start) : 64u;
    return true;
}

// RFC 8439, section 2.6: 32 bytes for each of `count` chunks from number `first`; `last` is the last one's number.
KERNEL(128) chacha20_one_time_keys(u32* keys, const u32* key, u64 first, u64 last, u64 count) {
    const u64 chunk = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (chunk >= count) return;
    u32 stream[16];
    keystream(stream, key, first + chunk, first + chunk == last, 0);
#pragma unroll
    for (int i = 0; i < 8; i++) keys[chunk * 8 + i] = stream[i];
}

// Write plaintext bytes [begin, begin + size) of a sealed slice to plain[0 …]; zeros for a chunk that was refused.
KERNEL(128) chacha20_open(u8* plain, const u8* sealed, const u32* refused, const u32* key, u64 first,
                                         u64 last, u64 begin, u64 size) {
    Block block;
    if (!block_of(block, begin, size)) return;
    const u64 chunk = first + block.chunk;
    u32 stream[16];
    keystream(stream, key, chunk, chunk == last, block.number + 1);
    apply(plain + (block.start - begin), sealed + block.chunk * kSealedChunk + (u64)block.number * 64, stream,
          block.from, block.to, refused[block.chunk] != 0);
}

// Write plain[0 … size) sealed to where plaintext bytes [begin, begin + size) of the slice belong.
KERNEL(128) chacha20_seal(u8* sealed, const u8* plain, const u32* key, u64 first, u64 last, u64 begin,
                                         u64 size) {
    Block block;
    if (!block_of(block, begin, size)) return;
    const u64 chunk = first + block.chunk;
    u32 stream[16];
    keystream(stream, key, chunk, chunk == last, block.number + 1);
    apply(sealed + block.chunk * kSealedChunk + (u64)block.number * 64, plain + (block.start - begin), stream,
          block.from, block.to, false);
}
