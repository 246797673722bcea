// Philox 4x32-10, word for word that of kernels/philox.py.
//
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.
#pragma once

#include "device.cuh"

struct Four {
    u32 word[4];
};

DEVICE Four philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const u32 high = __umulhi(c0, 0xD2511F53u), low = c0 * 0xD2511F53u;
        const u32 other_high = __umulhi(c2, 0xCD9E8D57u), other_low = c2 * 0xCD9E8D57u;
        c0 = other_high ^ c1 ^ k0;
        c1 = other_low;
        c2 = high ^ c3 ^ k1;
        c3 = low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Four{{c0, c1, c2, c3}};
}
