"""Every source for every architecture: compiled, held against the committed list, written, signed.

Guarantees: what is written to the folder is exactly what the committed list `kernels/cubins.json` names;
where a build differs, nothing is written and the difference is told. A kernel that spills registers or keeps
a stack in memory is refused, unless `SPILLS` says why it may.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from appliance.cubins.nvrtc import OPTIONS, Compiled, Compiler
from appliance.errors import ContentRefused, IntegrityError
from audit.note import NoteSigner, sign_note
from kernels.cuda.cubins import Cubin, CubinList, encode_list
from kernels.cuda.signatures import KERNELS

ARCHS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
NOTE = "cubins.note"

# Kernel to the reason why it may spill. None does.
SPILLS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Sources:
    """The bytes of `kernels/cuda`: sources by name without ending, headers by file name."""

    sources: Mapping[str, bytes]
    headers: Mapping[str, bytes]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file, by its name."""
        files = {f"{name}.cu": text for name, text in self.sources.items()} | dict(self.headers)
        return {name: hashlib.sha256(text).hexdigest() for name, text in sorted(files.items())}


@dataclass(frozen=True, slots=True)
class Built:
    """Cubins by architecture and source, and the list that describes them."""

    listed: CubinList
    data: Mapping[tuple[str, str], bytes]


def read_sources(folder: Path) -> Sources:
    """Read every .cu and .cuh of a folder."""
    return Sources(
        {path.stem: path.read_bytes() for path in sorted(folder.glob("*.cu"))},
        {path.name: path.read_bytes() for path in sorted(folder.glob("*.cuh"))},
    )


def build(compiler: Compiler, sources: Sources, archs: Sequence[str] = ARCHS) -> Built:
    """Compile everything; raise ContentRefused for errors, spills, and kernels that no signature names."""
    places = [(arch, name) for arch in archs for name in sources.sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(
            pool.map(
                lambda at: compiler.compile(f"{at[1]}.cu", sources.sources[at[1]], sources.headers, at[0]),
                places,
            )
        )
    done = dict(zip(places, results, strict=True))
    for (arch, name), compiled in done.items():
        _check(arch, name, compiled)
    cubins = tuple(
        Cubin(arch, name, hashlib.sha256(made.data).hexdigest(), len(made.data), made.kernels)
        for (arch, name), made in done.items()
    )
    listed = CubinList(compiler.name, OPTIONS, sources.hashes(), SPILLS, cubins)
    return Built(listed, {place: made.data for place, made in done.items()})


def _check(arch: str, name: str, compiled: Compiled) -> None:
    named = {kernel for kernel, signature in KERNELS.items() if signature.source == name}
    if compiled.kernels.keys() != named:
        raise ContentRefused(
            f"{name}.cu: expected the kernels that kernels/cuda/signatures.py names, found these on one side "
            f"only: {', '.join(sorted(compiled.kernels.keys() ^ named))}"
        )
    for kernel, taken in compiled.kernels.items():
        if (taken.spill_bytes or taken.stack_bytes) and kernel not in SPILLS:
            raise ContentRefused(
                f"{kernel} for {arch}: expected nothing in local memory, found {taken.stack_bytes} bytes of "
                f"stack and {taken.spill_bytes} of spills; use fewer registers, or say in SPILLS why not"
            )


def differences(built: CubinList, committed: CubinList) -> list[str]:
    """Say, a line each, where a build is not what the list says; only architectures that were built."""
    found = [
        f"{what}: expected {expected}, found {now}"
        for what, expected, now in (
            ("compiler", committed.compiler, built.compiler),
            ("options", committed.options, built.options),
        )
        if expected != now
    ]
    files = sorted(built.sources.items() ^ committed.sources.items())
    found += [
        f"{name}: the source is not the one of the list" for name in dict.fromkeys(name for name, _ in files)
    ]
    there = {(each.arch, each.source): each for each in committed.cubins if each.arch in built.archs}
    here = {(each.arch, each.source): each for each in built.cubins}
    found += [
        f"{source} for {arch}: the cubin is not the one of the list"
        for arch, source in dict.fromkeys((*here, *there))
        if here.get((arch, source)) != there.get((arch, source))
    ]
    return found


def write(built: Built, committed: CubinList, folder: Path) -> None:
    """Write folder/<arch>/<source>.cubin; raise IntegrityError where they are not what the list says."""
    if wrong := differences(built.listed, committed):
        told = "\n".join(f"    {line}" for line in wrong)
        raise IntegrityError(
            f"expected what kernels/cubins.json says, found {len(wrong)} differences:\n{told}\n"
            "if the sources were changed on purpose: make cubins UPDATE=1, and commit the new list"
        )
    for (arch, source), data in built.data.items():
        path = folder / arch / f"{source}.cubin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def sign(committed: CubinList, signer: NoteSigner, folder: Path) -> Path:
    """Write the list as a signed note beside the cubins; return its path."""
    path = folder / NOTE
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sign_note(encode_list(committed), [signer]))
    return path
