"""The list of compiled kernels: what was built from which sources, and how a cubin is held against it.

Guarantees to who loads kernels: bytes that `verify_cubin` passed are those that the list names for this
source and architecture, and were built from the sources and with the compiler that it names. That the list
itself is the signed one is checked before it comes here: this package holds no keys. Format:
docs/formats/cubins.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernels.errors import BackendMissing, CubinRefused

VERSION = 1
MAX_LIST_BYTES = 120 * 1024  # a signed note ends at 128 KiB, signatures included
_HASH = re.compile(r"[0-9a-f]{64}")
_ARCH = re.compile(r"sm_(\d{1,2})(\d)")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_FILE = re.compile(r"[a-z][a-z0-9_]{0,63}\.cuh?")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a kernel takes of a multiprocessor, as the compiler says."""

    registers: int  # per thread
    shared_bytes: int  # static, per block
    stack_bytes: int  # per thread
    spill_bytes: int  # stores and loads together


@dataclass(frozen=True, slots=True)
class Cubin:
    """One compiled source for one architecture."""

    arch: str
    source: str
    sha256: str
    size_bytes: int
    kernels: Mapping[str, Resources]


@dataclass(frozen=True, slots=True)
class CubinList:
    """Everything that was built in one go."""

    compiler: str
    options: tuple[str, ...]  # besides the architecture
    sources: Mapping[str, str]  # file name to SHA-256
    spills: Mapping[str, str]  # kernel name to the reason why it may spill
    cubins: tuple[Cubin, ...]

    @property
    def archs(self) -> tuple[str, ...]:
        """The architectures, in the list's order."""
        return tuple(dict.fromkeys(each.arch for each in self.cubins))

    def find(self, arch: str, source: str) -> Cubin:
        """Return the entry of a source; raise `CubinRefused` where there is none."""
        for each in self.cubins:
            if (each.arch, each.source) == (arch, source):
                return each
        raise CubinRefused(
            f"expected {source} for {arch} on the list of cubins, found {', '.join(self.archs) or 'none'}; "
            "install the cubins and the list of one release"
        )


def verify_cubin(listed: CubinList, arch: str, source: str, data: bytes) -> None:
    """Return when data is the cubin that the list names; raise `CubinRefused`."""
    entry = listed.find(arch, source)
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise CubinRefused(
            f"cubin {source} for {arch}: expected SHA-256 {entry.sha256}, found {found} ({len(data)} bytes); "
            "it was changed or is of another release: install it again, and ask who had write access"
        )


def arch_for(capability: tuple[int, int], archs: tuple[str, ...]) -> str:
    """Return the newest architecture that a card of this compute capability runs; raise `BackendMissing`.

    A cubin runs on cards of its own major number and its minor number or a higher one (CUDA C++ Programming
    Guide, "Binary Compatibility").
    """
    major, minor = capability
    numbers = {arch: (int(match[1]), int(match[2])) for arch in archs if (match := _ARCH.fullmatch(arch))}
    fitting = {number: arch for arch, number in numbers.items() if number[0] == major and number[1] <= minor}
    if not fitting:
        raise BackendMissing(
            f"expected a card of one of {', '.join(archs)}, for which kernels are built, found compute "
            f"capability {major}.{minor}; choose the backend 'cpu', or build kernels for it (docs/kernels.md)"
        )
    return fitting[max(fitting)]


# --- the text --------------------------------------------------------------------------------------------


def encode_list(listed: CubinList) -> str:
    """Write the list as JSON, one line per cubin; the inverse of `parse_list`."""
    head = {
        "version": VERSION,
        "compiler": listed.compiler,
        "options": list(listed.options),
        "sources": dict(listed.sources),
        "spills": dict(listed.spills),
    }
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, sort_keys=True, indent=0)}" for name, value in head.items()
    ]
    cubins = ",\n".join(json.dumps(_written(each)) for each in listed.cubins)
    return "{\n" + ",\n".join([*lines, f'"cubins": [\n{cubins}\n]']) + "\n}\n"


def _written(cubin: Cubin) -> dict[str, Any]:
    kernels = {
        name: [taken.registers, taken.shared_bytes, taken.stack_bytes, taken.spill_bytes]
        for name, taken in sorted(cubin.kernels.items())
    }
    return {
        "arch": cubin.arch,
        "source": cubin.source,
        "sha256": cubin.sha256,
        "size": cubin.size_bytes,
        "kernels": kernels,
    }


def parse_list(text: bytes) -> CubinList:
    """Read a list; raise `CubinRefused` for anything but exactly what `encode_list` writes."""
    if len(text) > MAX_LIST_BYTES:
        raise CubinRefused(f"list of cubins: expected at most {MAX_LIST_BYTES} bytes, found {len(text)}")
    try:
        listed = _read(json.loads(text.decode("ascii")))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CubinRefused(
            f"list of cubins: expected version {VERSION} of docs/formats/cubins.md, found another text "
            f"({type(error).__name__}: {error}); install the list of this release"
        ) from error
    if encode_list(listed).encode("ascii") != text:  # one spelling only: names twice, blanks, other orders
        raise CubinRefused("list of cubins: expected the one spelling that the build writes, found another")
    return listed


def _read(value: dict[str, Any]) -> CubinList:
    if value.keys() != {"version", "compiler", "options", "sources", "spills", "cubins"}:
        raise ValueError(f"names {', '.join(sorted(value))}")
    if value["version"] != VERSION:
        raise ValueError(f"version {value['version']}")
    return CubinList(
        _text(value["compiler"]),
        tuple(_text(each) for each in value["options"]),
        {_matched(_FILE, name): _matched(_HASH, each) for name, each in value["sources"].items()},
        {_matched(_NAME, name): _text(reason) for name, reason in value["spills"].items()},
        tuple(_read_cubin(each) for each in value["cubins"]),
    )


def _read_cubin(value: dict[str, Any]) -> Cubin:
    if value.keys() != {"arch", "source", "sha256", "size", "kernels"}:
        raise ValueError(f"names {', '.join(sorted(value))} of a cubin")
    return Cubin(
        _matched(_ARCH, value["arch"]),
        _matched(_NAME, value["source"]),
        _matched(_HASH, value["sha256"]),
        _count(value["size"]),
        {_matched(_NAME, name): _resources(each) for name, each in value["kernels"].items()},
    )


def _resources(value: list[Any]) -> Resources:
    registers, shared, stack, spilled = value
    return Resources(_count(registers), _count(shared), _count(stack), _count(spilled))


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"expected a count, found {value!r:.40}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r:.40}")
    return value


def _matched(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"expected {pattern.pattern}, found {value!r:.80}")
    return value
