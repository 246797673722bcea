"""Which code is running: one digest over the files of the installed packages.

It enters the log at each start and the lineage of each export, so that an auditor can compare it with the
digest of a release. KNOWN: a process that was taken over can lie about it.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable

PACKAGES = ("appliance", "audit", "kernels", "policy")
_IGNORED = ("__pycache__",)


def code_digest(packages: tuple[str, ...] = PACKAGES) -> str:
    """Return SHA-256 (hex) over `<path> <SHA-256>` lines of every file of the packages, sorted by path."""
    lines = sorted(line for package in packages for line in _lines(files(package), package))
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


def _lines(folder: Traversable, path: str) -> list[str]:
    found: list[str] = []
    for item in folder.iterdir():
        name = f"{path}/{item.name}"
        if item.name in _IGNORED:
            continue
        if item.is_dir():
            found += _lines(item, name)
        else:
            found.append(f"{name} {hashlib.sha256(item.read_bytes()).hexdigest()}\n")
    return found
