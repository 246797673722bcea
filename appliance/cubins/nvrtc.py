"""The one compiler that defines the cubins: NVRTC from the wheel that requirements/cubins.txt pins by hash.

Guarantees to who builds: sources and headers are handed over as bytes under their bare names, so that no
path, time or environment enters the result; another version than the pinned one is refused. The choice:
docs/decisions/0021-nvrtc.md. Source: NVRTC's manual, "Basic Usage" and "Supported Compile Options".
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from appliance.errors import ContentRefused, DeviceMissing
from kernels.cuda.cubins import Resources

PACKAGE = "nvidia-cuda-nvrtc"
VERSION = "13.0.88"
OPTIONS = ("--std=c++17", "--ptxas-options=-v")
_LIBRARIES = (
    "libnvrtc-builtins.so.13.0",
    "libnvrtc.so.13",
)  # the second looks for the first by its bare name

# What the assembler says of each kernel.
_ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A cubin and what each of its kernels takes."""

    data: bytes
    kernels: Mapping[str, Resources]


class Compiler:
    """NVRTC, opened; `compile` may be called from several threads."""

    def __init__(self) -> None:
        """Open the pinned wheel's library; raise DeviceMissing where it is not installed."""
        folder = _installed()
        loaded = [ctypes.CDLL(str(folder / name)) for name in _LIBRARIES]
        self._library = loaded[-1]

    @property
    def name(self) -> str:
        """What the list calls this compiler."""
        return f"{PACKAGE} {VERSION}"

    def compile(self, name: str, source: bytes, headers: Mapping[str, bytes], arch: str) -> Compiled:
        """Compile one source; raise ContentRefused with the compiler's words on any error or warning."""
        program = ctypes.c_void_p()
        texts, names = list(headers.values()), [each.encode() for each in headers]
        strings = ctypes.c_char_p * len(headers)
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            source,
            name.encode(),
            len(headers),
            strings(*texts),
            strings(*names),
        )
        try:
            options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={arch}")]
            failed = self._library.nvrtcCompileProgram(
                program, len(options), (ctypes.c_char_p * len(options))(*options)
            )
            log = self._bytes("ProgramLog", program).rstrip(b"\0").decode("utf-8", "replace")
            if failed or "warning" in log:
                raise ContentRefused(f"{name} for {arch}: expected a clean compilation, found\n{log.strip()}")
            return Compiled(self._bytes("CUBIN", program), read_resources(log))
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status:
            raise ContentRefused(f"{function}: expected success, found NVRTC's error {status}")


def read_resources(log: str) -> dict[str, Resources]:
    """Return what the assembler's log (`-v`) says of each kernel."""
    found: dict[str, Resources] = {}
    for entry in _ENTRY.finditer(log):
        shared = _SHARED.search(entry["rest"])
        spilled = int(entry["stores"]) + int(entry["loads"])
        found[entry["name"]] = Resources(
            int(entry["registers"]), int(shared[1]) if shared else 0, int(entry["stack"]), spilled
        )
    return found


def _installed() -> Path:
    """Folder of the wheel's libraries."""
    wanted = f"expected the package {PACKAGE} {VERSION}"
    advice = "`make cubins` installs it from requirements/cubins.txt"
    try:
        wheel = distribution(PACKAGE)
    except PackageNotFoundError as error:
        raise DeviceMissing(f"no compiler for CUDA kernels: {wanted}, found none; {advice}") from error
    if wheel.version != VERSION:
        raise DeviceMissing(f"another compiler for CUDA kernels: {wanted}, found {wheel.version}; {advice}")
    for path in wheel.files or ():
        if path.name == _LIBRARIES[-1]:
            return Path(str(path.locate())).parent
    raise DeviceMissing(f"{wanted} to hold {_LIBRARIES[-1]}, found none; install it again: {advice}")
