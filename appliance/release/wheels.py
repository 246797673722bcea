"""The packages of a release: our own wheel, built from a commit, and those that the locks name, by hash.

Guarantees the maker of a bundle: equal sources, compiler and epoch give an equal wheel, since neither the
folder it is built in nor the clock enters it; and what is downloaded is what the lock names, or nothing.
Sources: PEP 427 (wheels), PEP 600 (manylinux), reproducible-builds.org (SOURCE_DATE_EPOCH).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

from appliance.errors import ContentRefused, Incomplete

PYTHONS = ("3.11", "3.12", "3.13")
# In the order of preference, as pip itself would choose on a host that has them all.
_PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
_GLIBC_SYMBOL = re.compile(rb"\bGLIBC_(\d+)\.(\d+)\b")
_GLIBC_TAG = re.compile(r"manylinux_(\d+)_(\d+)_")


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel and what its metadata says; `requires` are names of packages, without those of extras."""

    path: Path
    name: str
    version: str
    licence: str
    requires: tuple[str, ...]

    @property
    def purl(self) -> str:
        """The package as a package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read_wheel(path: Path) -> Wheel:
    """Read a wheel's metadata; raises ContentRefused where it has none."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        if len(names) != 1:
            raise ContentRefused(f"{path.name}: expected one METADATA, found {len(names)}: it is no wheel")
        fields = BytesParser().parsebytes(archive.read(names[0]), headersonly=True)
    required = [str(line) for line in fields.get_all("Requires-Dist", [])]
    needed = {normalised(re.split(r"[^\w.-]", line)[0]) for line in required if "extra ==" not in line}
    licence = fields.get("License-Expression") or ""
    return Wheel(
        path, normalised(str(fields["Name"])), str(fields["Version"]), licence, tuple(sorted(needed))
    )


def normalised(name: str) -> str:
    """Return a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def export_commit(repository: Path, target: Path) -> str:
    """Unpack what is committed, and nothing else, into an empty folder; return the commit's id."""
    commit = subprocess.run(
        ["git", "-C", repository, "rev-parse", "HEAD"],  # noqa: S607  git is the developer's own
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    archive = target / "source.tar"
    subprocess.run(["git", "-C", repository, "archive", "-o", archive, commit], check=True)  # noqa: S607
    subprocess.run(["tar", "-x", "-f", archive, "-C", target], check=True)  # noqa: S607
    archive.unlink()
    return commit


def build_wheel(source: Path, target: Path, epoch: int) -> Path:
    """Build our wheel, with kernels that need only libc; raises Incomplete where they were not built."""
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SOURCE_DATE_EPOCH": str(epoch),
        "CXXFLAGS": f"-ffile-prefix-map={source}=.",
    }
    options = ("--no-build-isolation", "--no-deps", "--no-index")
    _pip(
        "wheel",
        *options,
        "-C",
        "cmake.define.KERNELS_STANDALONE=ON",
        "-w",
        str(target),
        str(source),
        env=environment,
    )
    (wheel,) = target.glob("training_appliance-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        if not any(name.endswith("libkernels.so") for name in archive.namelist()):
            raise Incomplete(
                f"{wheel.name}: expected the compiled CPU kernels in it, found none: install g++"
            )
    return wheel


def download(lock: Path, target: Path) -> None:
    """Fetch what a lock names, for every CPython that is served, into one folder."""
    for python in PYTHONS:
        abi = f"cp{python.replace('.', '')}"
        wanted = [option for platform in _PLATFORMS for option in ("--platform", platform)]
        wanted += ["--implementation", "cp", "--python-version", python]
        wanted += [option for tag in (abi, "abi3", "none") for option in ("--abi", tag)]
        _pip(
            "download",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            *wanted,
            "-r",
            str(lock),
            "-d",
            str(target),
        )


def _pip(*arguments: str, env: dict[str, str] | None = None) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", *arguments],
        env=env,
        umask=0o022,
        check=True,
    )


def glibc_floor(wheels: Iterable[Path]) -> str:
    """Return the oldest glibc that serves them all: by the names of wheels, and by our libraries' symbols."""
    found = {(2, 17)}
    for path in wheels:
        tags = [(int(major), int(minor)) for major, minor in _GLIBC_TAG.findall(path.name)]
        found |= {min(tags)} if tags else set()  # a wheel with several tags installs by the oldest of them
        if path.name.endswith("-linux_x86_64.whl"):
            found |= set(_symbols(path))
    major, minor = max(found)
    return f"{major}.{minor}"


def _symbols(wheel: Path) -> Iterator[tuple[int, int]]:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".so" in name:
                for major, minor in _GLIBC_SYMBOL.findall(archive.read(name)):
                    yield int(major), int(minor)


def unpacked_bytes(wheels: Sequence[Path], python: str = PYTHONS[0]) -> int:
    """Return how much one interpreter's wheels take when they are unpacked."""
    others = [f"-cp{each.replace('.', '')}-cp" for each in PYTHONS if each != python]
    total = 0
    for path in wheels:
        if not any(tag in path.name for tag in others):
            with zipfile.ZipFile(path) as archive:
                total += sum(member.file_size for member in archive.infolist())
    return total
