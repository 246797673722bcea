"""Builds a `.cu` file for the CPU and calls its kernels: `launch(Launch, name=value, …)` over NumPy arrays.

One shared object per source, kept in build/cuda_shim under the hash of all that went into it. The tests take
it as the fixture `device` (tests/kernels/cuda/conftest.py).
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np

from kernels.cuda.launches import Launch
from kernels.cuda.signatures import KERNELS, bind

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
SOURCES = ROOT / "kernels/cuda"
BUILD = ROOT / "build/cuda_shim"
SANITIZE = "SHIM_SANITIZE"  # set by `make sanitize-cuda`, which preloads the sanitizer's library
_FLAGS = ("-std=c++17", "-O2", "-g1", "-fPIC", "-shared", "-DCUDA_SHIM", "-Wl,-Bsymbolic")
_SANITIZED = (
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
)
_WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
    "-Wno-unused-function",
    "-Wno-strict-aliasing",
    "-Werror",
)
_TYPES = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "u": ctypes.c_uint,
    "l": ctypes.c_longlong,
    "w": ctypes.c_ulonglong,
    "f": ctypes.c_float,
}


class ShimFault(Exception):
    """A launch that could not end: a divergent barrier, lanes that never meet, a block of a wrong size."""


def missing() -> str:
    """Why the shim cannot be built here, "" where it can."""
    if platform.machine() != "x86_64":
        return f"the shim's fibers are written for x86-64, this is {platform.machine()}"
    return "" if shutil.which("g++") else "no g++ to build the shim with"


@functools.cache
def build(source: Path) -> ctypes.CDLL:
    """Compile one source, or take what was compiled from the same bytes before."""
    text = source.read_text(encoding="utf-8")
    names = [name for name, kernel in KERNELS.items() if kernel.source == source.stem]
    lines = [f'#include "{source}"', *(f"SHIM_EXPORT({name})" for name in names)]
    flags = (*_FLAGS, *(_SANITIZED if os.environ.get(SANITIZE) else ()), *_WARNINGS)
    parts = [text, *lines, *flags, *(path.read_text(encoding="utf-8") for path in sorted(_included()))]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    library = BUILD / f"{source.stem}-{digest}.so"
    if not library.exists():
        _compile(library, lines, flags)
    return ctypes.CDLL(str(library))


def _included() -> list[Path]:
    return [*SOURCES.glob("*.cuh"), HERE / "shim.h", HERE / "shim.cpp"]


def _compile(library: Path, lines: list[str], flags: tuple[str, ...]) -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    mine = library.with_suffix(f".{os.getpid()}.so")  # several test processes may build at once
    wrapper = mine.with_suffix(".cpp")
    wrapper.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["g++", *flags, f"-I{HERE}", f"-I{SOURCES}", wrapper, HERE / "shim.cpp", "-o", mine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wrapper.unlink()
    mine.replace(library)


def launch(how: Launch, *, seed: int = 0, **values: object) -> None:
    """Run one kernel over NumPy arrays (None: a null pointer) and numbers; `seed` orders its threads.

    Raises `ShimFault`; every array must be contiguous.
    """
    library = build(SOURCES / f"{KERNELS[how.kernel].source}.cu")
    held = [_argument(letter, value) for letter, value in bind(how.kernel, values)]
    addresses = (ctypes.c_void_p * len(held))(*(ctypes.addressof(each) for each in held))
    function = getattr(library, f"launch_{how.kernel}")
    function.restype = ctypes.c_char_p
    three, seed_word = ctypes.c_uint * 3, ctypes.c_uint64(seed)
    shared = ctypes.c_size_t(how.shared_bytes)
    fault = function(addresses, three(*how.grid), three(*how.block), shared, seed_word)
    if fault:
        raise ShimFault(f"{how.kernel}: {fault.decode()}")


def _argument(letter: str, value: object) -> object:
    if isinstance(value, np.ndarray):
        assert letter == "p", "an array where the kernel takes a number"
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    return _TYPES[letter](value)


def types_of(kernel: str) -> str:
    """Type letters of a kernel as the compiler saw them."""
    function = getattr(build(SOURCES / f"{KERNELS[kernel].source}.cu"), f"types_{kernel}")
    function.restype = ctypes.c_char_p
    return function().decode()
