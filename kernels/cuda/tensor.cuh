// Tensor cores and what feeds them, behind four functions: PTX on a device, the shim's emulation on a CPU.
//
// mma.sync of 16 by 8 by 16 in bf16 with float32 sums, ldmatrix and cp.async all exist since sm_80, so that one
// source serves every architecture (docs/kernels.md says why not wgmma). How lanes hold the tiles: PTX ISA, "Matrix
// Fragments for mma.m16n8k16".
#pragma once

#include "device.cuh"

// sum (16, 8) += a (16, 16) · b (16, 8).
DEVICE void product(float (&sum)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef CUDA_SHIM
    shim::product(sum, a, {b0, b1});
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

#ifndef CUDA_SHIM
DEVICE u32 shared_address(const void* address) { return static_cast<u32>(__cvta_generic_to_shared(address)); }
#endif

// Four tiles of 8 by 8 from shared memory; lane i gives the address of row i mod 8 of tile i / 8, 16 bytes aligned.
DEVICE void matrix_load(u32 (&to)[4], const bf16* row) {
#ifdef CUDA_SHIM
    shim::matrix_load(to, row, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// The same, each tile transposed.
DEVICE void matrix_load_turned(u32 (&to)[4], const bf16* row) {
#ifdef CUDA_SHIM
    shim::matrix_load(to, row, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// Begins to copy 16 bytes from global to shared memory; zeros where they are not there, and then nothing is read.
DEVICE void copy_async(void* to, const void* from, bool there) {
#ifdef CUDA_SHIM
    shim::copy_async(to, from, there);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
                 : "memory");
#endif
}

// Closes a group of copies.
DEVICE void close_copies() {
#ifdef CUDA_SHIM
    shim::close_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all but the LEFT newest groups of this thread's copies have come; other threads' need a barrier besides.
template <int LEFT>
DEVICE void wait_copies() {
#ifdef CUDA_SHIM
    shim::wait_copies(LEFT);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}
