"""How the kernels of sealed payloads are launched: chunks of 64 KiB under ChaCha20-Poly1305.

As `kernels.cuda.launches`: from sizes alone, the same for a device and for the shim. A slice is a run of
chunks; its plaintext bytes are counted from its first chunk.
"""

from __future__ import annotations

from kernels.cuda.launches import Launch

_THREADS = 128
_WARP = 32
_KEYSTREAM_BLOCK = 64


def one_time_keys(count: int) -> Launch:
    """Derive the Poly1305 keys (8 words each) of `count` chunks."""
    return _threads("chacha20_one_time_keys", count)


def verify_chunks(count: int) -> Launch:
    """Say of each chunk whether its tag fits: a warp a chunk."""
    return _threads("poly1305_verify", _WARP * count)


def tag_chunks(count: int) -> Launch:
    """Put a tag behind each chunk: a warp a chunk."""
    return _threads("poly1305_seal", _WARP * count)


def open_segment(begin: int, size: int) -> Launch:
    """Decrypt `size` plaintext bytes of a slice from byte `begin`: a thread for each block of 64."""
    return _threads("chacha20_open", _keystream_blocks(begin, size))


def seal_segment(begin: int, size: int) -> Launch:
    """Encrypt `size` plaintext bytes to where they belong in a slice: a thread for each block of 64."""
    return _threads("chacha20_seal", _keystream_blocks(begin, size))


def _keystream_blocks(begin: int, size: int) -> int:
    return -(-(begin + size) // _KEYSTREAM_BLOCK) - begin // _KEYSTREAM_BLOCK


def _threads(kernel: str, count: int) -> Launch:
    return Launch(kernel, (max(1, -(-count // _THREADS)), 1, 1), (_THREADS, 1, 1))
