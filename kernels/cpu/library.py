"""The compiled library: where it lies, which instruction sets it offers here, and its functions by name.

It is a plain C library loaded with ctypes (`docs/decisions/0013-build-and-locks.md`): nothing is compiled at
run time and no memory is both writable and executable, as the jail of a worker demands.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

from kernels.errors import BackendMissing, ThreadsRefused

PATH = Path(__file__).with_name("lib") / "libkernels.so"  # in a folder that is no package: it is no module
PATH_VARIABLE = "KERNELS_LIBRARY"  # another build of the same sources: how `make sanitize` slips in
_C_TYPES = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "n": ctypes.c_long,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
    "u": ctypes.c_uint64,
}


@functools.cache
def load() -> ctypes.CDLL:
    """Open the library; raise `BackendMissing` where it was not built or does not load."""
    path = Path(os.environ.get(PATH_VARIABLE, PATH))
    if not path.exists():
        raise BackendMissing(
            f"the cpu backend is not built: expected {path}; install a C++ compiler (g++) and install again. "
            "Until then choose the backend 'reference', which is several times slower"
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendMissing(
            f"the cpu backend does not load: {error}; install libgomp1, or install the package again"
        ) from error
    library.kernels_isa.restype = ctypes.c_char_p
    library.kernels_op.restype = ctypes.c_void_p
    library.kernels_op.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    library.kernels_open.restype = ctypes.c_void_p
    library.kernels_close.argtypes = [ctypes.c_void_p]
    library.kernels_growths.restype = ctypes.c_long
    library.kernels_growths.argtypes = [ctypes.c_void_p]
    return library


def instruction_sets() -> tuple[str, ...]:
    """Those that the library holds and this processor has, best first."""
    library = load()
    found: list[str] = []
    while name := library.kernels_isa(len(found)):
        found.append(name.decode("ascii"))
    return tuple(found)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


class Engine:
    """Threads, working memory and the functions of one instruction set."""

    def __init__(self, isa: str | None, threads: int | None) -> None:
        """Choose the best instruction set and all cores, unless told; refuse what this machine has not."""
        offered = instruction_sets()
        self.isa = offered[0] if isa is None else isa
        if self.isa not in offered:
            raise BackendMissing(
                f"expected an instruction set among {', '.join(offered)}, which this processor and this "
                f"build have, found {isa!r}; choose one of them, or none to have the best"
            )
        self.threads = cores() if threads is None else threads
        if not 1 <= self.threads <= cores():
            raise ThreadsRefused(
                f"expected 1 to {cores()} threads, the cores that this process may use, found {threads}; "
                "lower the number of threads, or leave it out to use all cores"
            )
        self._library = load()
        self.handle = self._library.kernels_open(self.threads)
        if not self.handle:
            raise MemoryError("no memory for the engine of the cpu backend")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self._library.kernels_close(self.handle)

    @property
    def growths(self) -> int:
        """How often working memory was allocated so far; a step after the first adds nothing to it."""
        return int(self._library.kernels_growths(self.handle))

    def function(self, name: str, signature: str) -> Any:
        """Return the op `name`; `signature` has one letter per argument after the engine (see `_C_TYPES`)."""
        address = self._library.kernels_op(self.isa.encode("ascii"), name.encode("ascii"))
        if not address:
            raise BackendMissing(
                f"the library at {PATH} is of another version: it has no op {name!r}; install again"
            )
        kinds = [_C_TYPES[letter] for letter in signature]
        return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *kinds)(address)
