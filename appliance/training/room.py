"""How much memory this process may take: the machine's, or less where a control group limits it.

A limit of any group above the process's own counts. Version 2 (`memory.max`) and version 1
(`memory.limit_in_bytes`) are read, each where the kernel says that it is mounted. What cannot be read limits
nothing here; the kernel still enforces it. Source: cgroups(7), proc_pid_mountinfo(5); Linux,
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_FILES = {"cgroup2": "memory.max", "cgroup": "memory.limit_in_bytes"}


def machine_bytes() -> int:
    """Memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def room_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may take; `root` is where the kernel's files are looked for."""
    return min((machine_bytes(), *_limits(root)))


def _limits(root: Path) -> Iterator[int]:
    paths = _own_groups(_read(root / "proc/self/cgroup"))
    for kind, base, place in _mounts(_read(root / "proc/self/mountinfo")):
        own = paths.get(kind)
        if own is None:
            continue
        # A group outside of what is mounted (another namespace's view) is not to be found: the mount counts.
        inside = own.relative_to(base) if own.is_relative_to(base) and ".." not in own.parts else None
        for group in _upwards(inside or PurePosixPath()):
            limit = _read(root / str(place).lstrip("/") / group / _FILES[kind]).strip()
            if limit.isdecimal():
                yield int(limit)


def _own_groups(text: str) -> dict[str, PurePosixPath]:
    """Return this process's group by the file system's type, of the hierarchies that count memory."""
    found = {}
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if (number, controllers) == ("0", ""):
            found["cgroup2"] = PurePosixPath(path)
        elif "memory" in controllers.split(","):
            found["cgroup"] = PurePosixPath(path)
    return found


def _mounts(text: str) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """Yield type, root within the file system, and place of each mounted hierarchy that counts memory."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), [*after.split(), "", "", ""][:3]
        if len(fields) > 4 and (kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(","))):
            yield kind, PurePosixPath(_unescaped(fields[3])), PurePosixPath(_unescaped(fields[4]))


def _upwards(group: PurePosixPath) -> Iterator[PurePosixPath]:
    yield group
    yield from group.parents


def _unescaped(name: str) -> str:
    for character in " \t\n\\":
        name = name.replace(f"\\{ord(character):03o}", character)
    return name


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
