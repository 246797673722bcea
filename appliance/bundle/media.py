"""Removable media and what lies on them, told without opening any of it.

Guarantees to the operator: devices are read from the kernel's own tables (/sys and /proc), names on a medium
are listed and nothing is parsed, so a hostile stick is no more than a list of names until its signature was
checked. Whoever names a device gets the folder where it is mounted, or the command that mounts it safely.
Source: Linux, Documentation/ABI/stable/sysfs-block; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.bundle.folder import MANIFEST, UNFINISHED
from appliance.bundle.medium import is_foreign, medium_error
from appliance.errors import MediumMissing, UsageError

SECTOR_BYTES: Final = 512
MOUNT: Final = "mount -o ro,nosuid,nodev,noexec"

_BUSES: Final = ("usb", "mmc")
_FOLDER: Final = re.compile(r"[0-9a-f]{8}\.(bundle|approval)")


@dataclass(frozen=True, slots=True)
class Device:
    """A removable disk or one of its partitions; `folder` is where it is mounted, None where it is not."""

    path: str
    model: str
    size_bytes: int
    write_protected: bool
    filesystem: str
    folder: Path | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Names on a medium: bundles that have a manifest, those that lack one, approvals, others' files."""

    bundles: tuple[str, ...]
    unfinished: tuple[str, ...]
    approvals: tuple[str, ...]
    foreign: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Mount:
    folder: Path
    filesystem: str


def devices(root: Path = Path("/")) -> tuple[Device, ...]:
    """Return the removable devices, sorted; a disk with partitions is told as these."""
    mounts = _mounts(root)
    found: list[Device] = []
    for disk in sorted((root / "sys/block").iterdir()):
        if _is_removable(disk):
            parts = sorted(entry.parent for entry in disk.glob("*/partition"))
            found += [_device(disk, each, mounts) for each in (parts or [disk])]
    return tuple(each for each in found if each.size_bytes)  # an empty card reader is no medium


def listing(folder: Path) -> Listing:
    """Return what lies at the top of a medium; raises MediumMissing."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
        folders = [name for name in names if _FOLDER.fullmatch(name) and not (folder / name).is_symlink()]
        within = {name: {entry.name for entry in (folder / name).iterdir()} for name in folders}
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediumMissing(f"expected a medium at {folder}, found none: insert it") from error
    except OSError as error:
        raise medium_error(error, str(folder)) from error
    bundles = [name for name in folders if name.endswith(".bundle")]
    return Listing(
        bundles=tuple(
            name for name in bundles if MANIFEST in within[name] and UNFINISHED not in within[name]
        ),
        unfinished=tuple(
            name for name in bundles if MANIFEST not in within[name] or UNFINISHED in within[name]
        ),
        approvals=tuple(name for name in folders if name.endswith(".approval")),
        foreign=tuple(name for name in names if is_foreign(name)),
    )


def folder_of(path: Path, root: Path = Path("/")) -> Path:
    """Return a folder as it is, and for a device the folder where it is mounted; raises MediumMissing."""
    try:
        found = path.stat()
    except OSError as error:
        raise MediumMissing(f"expected a folder or a device at {path}, found: {error.strerror}") from error
    if not stat.S_ISBLK(found.st_mode):
        return path
    mount = _mounts(root).get(f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")
    if mount is None:
        raise MediumMissing(f"expected {path} mounted, found it is not; next: `{MOUNT} {path} /mnt`, as root")
    return mount.folder


def bundle_at(path: Path, root: Path = Path("/")) -> Path:
    """Return the bundle's folder that a path means: itself, or the only bundle on a medium.

    Raises MediumMissing where there is none, UsageError where there are several.
    """
    folder = folder_of(path, root)
    if folder.name.endswith(".bundle") or (folder / MANIFEST).exists():
        return folder
    found = listing(folder)
    if len(found.bundles) == 1:
        return folder / found.bundles[0]
    if found.bundles:
        raise UsageError(f"expected one bundle on {path}, found {', '.join(found.bundles)}: name one of them")
    rest = f"only unfinished ones ({', '.join(found.unfinished)})" if found.unfinished else "none"
    raise MediumMissing(f"expected a bundle on {path}, found {rest}: was the right medium inserted?")


def _is_removable(disk: Path) -> bool:
    """Say whether a disk can be pulled: a stick says so, a disk in a USB case is where the bus is."""
    if _read(disk / "removable") == "1":
        return True
    return any(part.rstrip("0123456789") in _BUSES for part in disk.resolve().parts)


def _device(disk: Path, block: Path, mounts: dict[str, _Mount]) -> Device:
    mount = mounts.get(_read(block / "dev"))
    model = " ".join(_read(disk / "device" / name) for name in ("vendor", "model"))
    return Device(
        path=f"/dev/{block.name}",
        model=model.strip(),
        size_bytes=int(_read(block / "size") or 0) * SECTOR_BYTES,
        write_protected=_read(block / "ro") == "1",
        filesystem=mount.filesystem if mount else "",
        folder=mount.folder if mount else None,
    )


def _mounts(root: Path) -> dict[str, _Mount]:
    """Return mounts by device number; where one is mounted twice, the later one."""
    found: dict[str, _Mount] = {}
    for line in (
        (root / "proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    ):
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        folder = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        found[fields[2]] = _Mount(Path(folder), after.split(" ")[0])
    return found


def _read(path: Path) -> str:
    """Return one attribute of a device, empty where it has none or was pulled meanwhile."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
