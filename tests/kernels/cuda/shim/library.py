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
_FLAGS = ("-std=c++17", "-O2", "-g1", "-fPIC", "-DCUDA_SHIM", "-Wl,-Bsymbolic")
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
def build(source: Path, names: tuple[str, ...]) -> ctypes.CDLL:
    """Compile one source and its kernels `names`, or take what was compiled from the same bytes before."""
    wrapper = "\n".join([f'#include "{source}"', *(f"SHIM_EXPORT({name})" for name in names), ""])
    headers = [path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.cuh"))]
    known = (wrapper, source.read_text(encoding="utf-8"), *headers)
    return ctypes.CDLL(str(_made(f"{source.stem}.so", wrapper, known, "-shared", str(_fibers()))))


def _fibers() -> Path:
    """The shim's own part, compiled once for all sources."""
    return _made("shim.o", f'#include "{HERE / "shim.cpp"}"\n', (), "-c")


def _made(name: str, text: str, known: tuple[str, ...], *how: str) -> Path:
    """Compile a text of C++ into build/cuda_shim, unless the same was compiled before."""
    flags = (*_FLAGS, *(_SANITIZED if os.environ.get(SANITIZE) else ()), *_WARNINGS)
    own = [(HERE / part).read_text(encoding="utf-8") for part in ("shim.h", "shim.cpp")]
    digest = hashlib.sha256("\0".join((text, *known, *flags, *own)).encode()).hexdigest()[:16]
    made = BUILD / f"{digest}-{name}"
    if not made.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        mine = BUILD / f"{digest}-{os.getpid()}-{name}"  # several test processes may build at once
        source = mine.with_suffix(".cpp")
        source.write_text(text, encoding="utf-8")
        command = ["g++", *flags, f"-I{HERE}", f"-I{SOURCES}", source, *how, "-o", mine]
        clean = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
        assert done.returncode == 0, done.stderr
        source.unlink()
        mine.replace(made)
    return made


def library_of(kernel: str) -> ctypes.CDLL:
    """The library that holds a kernel of kernels/cuda."""
    source = KERNELS[kernel].source
    names = tuple(name for name, each in KERNELS.items() if each.source == source)
    return build(SOURCES / f"{source}.cu", names)


def launch(how: Launch, *, seed: int = 0, **values: object) -> None:
    """Run one kernel over NumPy arrays (None: a null pointer) and numbers; `seed` orders its threads.

    Raises `ShimFault`; every array must be contiguous.
    """
    call(library_of(how.kernel), how, seed, bind(how.kernel, values))


def call(library: ctypes.CDLL, how: Launch, seed: int, arguments: list[tuple[str, object]]) -> None:
    """Run a kernel of any library; raises `ShimFault`."""
    held = [_argument(letter, value) for letter, value in arguments]
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
    function = getattr(library_of(kernel), f"types_{kernel}")
    function.restype = ctypes.c_char_p
    return function().decode()
