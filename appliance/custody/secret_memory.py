"""Memory for secrets that live long: never on a disk, in a dump or in a child, and gone when it is wiped.

Guarantee: bytes that were put here lie in one mapping of their own. Where the kernel has memfd_secret(2) no
other process can read it, not root through /proc either; elsewhere it is locked into memory (mlock), so that
it is never swapped, and left out of core dumps. Children get neither. `wipe` overwrites it, after which every
use raises SealedError: nothing is ever encrypted with zeros.

KNOWN: libraries copy a key while they use it. Those copies lie in ordinary memory until it is used again; the
custodian ends at each sealing, which is the wipe that can be promised.

Source: memfd_secret(2), mlock(2), madvise(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os

from appliance.errors import JailError, SealedError

_MEMFD_SECRET = 447  # the same number on every architecture that has it
_CLOEXEC = 0o2000000
_libc = ctypes.CDLL(None, use_errno=True)

MEMFD_SECRET, MLOCK = "memfd_secret", "mlock"


class SecretMemory:
    """One locked mapping, handed out piece by piece; `kind` says how it is protected."""

    def __init__(self, size: int, *, memfd_secret: bool = True) -> None:
        """Map `size` bytes. Raises JailError where the memory cannot be locked."""
        mapped = _secret_mapping(size) if memfd_secret else None
        self.kind = MLOCK if mapped is None else MEMFD_SECRET
        self._map: mmap.mmap | None = _locked_mapping(size) if mapped is None else mapped
        self._map.madvise(mmap.MADV_DONTFORK)
        self._size = size
        self._used = 0
        self._pieces: list[memoryview] = []

    def __repr__(self) -> str:
        return f"<SecretMemory {self.kind}>"

    def take(self, secret: bytearray) -> memoryview:
        """Move a secret here: returns where it lies now, overwrites where it lay.

        Raises SealedError after `wipe`, ValueError where there is no room.
        """
        if self._map is None:
            raise SealedError("this memory was wiped; unseal the vault to use it again")
        begin, self._used = self._used, self._used + len(secret)
        if self._used > self._size:
            raise ValueError(f"expected {len(secret)} bytes of room for a secret, found {self._size - begin}")
        piece = memoryview(self._map)[begin : self._used]
        piece[:] = secret
        secret[:] = bytes(len(secret))
        self._pieces.append(piece)
        return piece

    def wipe(self) -> None:
        """Overwrite every piece and unmap. A piece that somebody kept raises ValueError from now on.

        One that a library is reading this moment stays mapped, and zero, until that call returns.
        """
        if self._map is None:
            return
        self._map[:] = bytes(self._size)
        for piece in self._pieces:
            with contextlib.suppress(BufferError):
                piece.release()
        self._pieces.clear()
        with contextlib.suppress(BufferError):
            self._map.close()
        self._map = None


def _secret_mapping(size: int) -> mmap.mmap | None:
    """Map memory that only this process can read; None where the kernel has none to give."""
    fd = int(_libc.syscall(_MEMFD_SECRET, _CLOEXEC))
    if fd < 0:
        return None
    try:
        os.ftruncate(fd, size)
        return mmap.mmap(fd, size, flags=mmap.MAP_SHARED)
    except OSError:  # the limit on locked memory: mlock below says so
        return None
    finally:
        os.close(fd)


def _locked_mapping(size: int) -> mmap.mmap:
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped.madvise(mmap.MADV_DONTDUMP)
    at = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    if _libc.mlock(ctypes.c_void_p(at), ctypes.c_size_t(size)):
        reason = os.strerror(ctypes.get_errno())
        mapped.close()
        raise JailError(
            f"expected to lock {size} bytes of memory for keys, found: {reason}; raise the limit (ulimit -l)"
        )
    return mapped
