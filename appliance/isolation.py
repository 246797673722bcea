"""Facts about the host that isolation rests on, read and never changed.

Guarantees, to the custodian and to `doctor`: each check says what it expected, what it found, where, and how
to mend it. What could not be read is UNKNOWN, and UNKNOWN is not isolated: only evidence counts. NA is for a
danger that the kernel was built without. The root of the tree that is read is a parameter, so that the
failing cases can be shown.

KNOWN: interfaces are looked for in this process's network namespace and in that of /sys; other namespaces,
buses, radios and management controllers come with the air-gap watch.

Source: proc(5), sysfs(5), core(5), Documentation/admin-guide/sysctl/kernel.rst and LSM/Yama.rst of Linux.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MAX_READ = 256 * 1024


class Status(StrEnum):
    """The outcome of a check."""

    OK = "OK"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    NA = "NA"


class Severity(StrEnum):
    """REQUIRED checks decide whether a host is isolated; ADVISED ones are told."""

    REQUIRED = "required"
    ADVISED = "advised"


@dataclass(frozen=True, slots=True)
class Check:
    """One fact: `evidence` is the path it was read from, `reference` a public guide's id for it, or ""."""

    id: str
    title: str
    severity: Severity
    expected: str
    found: str
    status: Status
    evidence: str
    mend: str
    reference: str


def checks(sysroot: Path = Path("/")) -> tuple[Check, ...]:
    """Read all checks from the tree at `sysroot`."""
    return (
        _network_interfaces(sysroot),
        _swap(sysroot),
        _core_pattern(sysroot),
        _suid_dumpable(sysroot),
        _ptrace_scope(sysroot),
    )


def isolated(found: tuple[Check, ...]) -> bool:
    """Whether every required check is known to hold; none at all is no evidence."""
    required = [check for check in found if check.severity is Severity.REQUIRED]
    return bool(required) and all(check.status in (Status.OK, Status.NA) for check in required)


def _network_interfaces(sysroot: Path) -> Check:
    """Look in /sys, which shows the namespace it was mounted in, and in /proc, which shows our own."""
    folder, table = sysroot / "sys/class/net", sysroot / "proc/self/net/dev"
    seen = _folder_names(folder)
    listed = _read(table)
    names = set(seen or ()) | {line.partition(":")[0].strip() for line in (listed or "").splitlines()[2:]}
    others = sorted(names - {"lo"})
    if others:
        status, found = Status.FAIL, ", ".join(others)
    elif seen is None or listed is None:
        status, found = Status.UNKNOWN, f"{folder if seen is None else table} cannot be read"
    else:
        status, found = Status.OK, "lo" if names else "none"
    return Check(
        id="network.interfaces",
        title="No network interface but loopback",
        severity=Severity.REQUIRED,
        expected="lo or none",
        found=found,
        status=status,
        evidence=f"{folder}, {table}",
        mend="remove the adapter or its driver, or start the appliance in a network namespace of its own",
        reference="",
    )


def _swap(sysroot: Path) -> Check:
    table = sysroot / "proc/swaps"
    listed = _read(table)
    if listed is not None:
        areas = [line.split()[0] for line in listed.splitlines()[1:] if line.strip()]
        clear = [area for area in areas if not _swap_is_safe(sysroot, area)]
        status = Status.FAIL if clear else Status.OK
        found = f"in clear: {', '.join(clear)}" if clear else f"{len(areas)} areas, none in clear"
    elif "SwapTotal:" not in (memory := _read(sysroot / "proc/meminfo") or ""):
        status, found = Status.UNKNOWN, f"{table} cannot be read"
    else:
        built = not any(line.split() == ["SwapTotal:", "0", "kB"] for line in memory.splitlines())
        status = Status.UNKNOWN if built else Status.NA
        found = f"{table} is missing" if built else "a kernel without swap"
    return Check(
        id="memory.swap",
        title="No swap in clear",
        severity=Severity.REQUIRED,
        expected="no swap, or swap on dm-crypt or in zram without a backing device",
        found=found,
        status=status,
        evidence=str(table),
        mend="swapoff -a and remove swap from /etc/fstab, or put it on dm-crypt with a random key",
        reference="",
    )


def _swap_is_safe(sysroot: Path, area: str) -> bool:
    """Whether what is swapped there is encrypted, or never leaves memory."""
    block = sysroot / "sys/block" / Path(area).name
    if Path(area).name.startswith("zram"):
        return (_read(block / "backing_dev") or "").strip() == "none"
    return (_read(block / "dm/uuid") or "").startswith("CRYPT-")


def _core_pattern(sysroot: Path) -> Check:
    path = sysroot / "proc/sys/kernel/core_pattern"
    value = _read(path)
    piped = value is not None and value.lstrip().startswith("|")
    return Check(
        id="memory.core-pattern",
        title="Core dumps are not piped to a program",
        severity=Severity.REQUIRED,  # RLIMIT_CORE does not stop a pipe; exec undoes not-dumpable
        expected="a file name or nothing",
        found=_shown(value, path),
        status=_judge(value, good=not piped),
        evidence=str(path),
        mend="sysctl kernel.core_pattern=core",
        reference="",
    )


def _suid_dumpable(sysroot: Path) -> Check:
    path = sysroot / "proc/sys/fs/suid_dumpable"
    value = _read(path)
    return Check(
        id="memory.suid-dumpable",
        title="Programs that changed their rights leave no core dump",
        severity=Severity.REQUIRED,
        expected="0",
        found=_shown(value, path),
        status=_judge(value, good=value is not None and value.strip() == "0"),
        evidence=str(path),
        mend="sysctl fs.suid_dumpable=0",
        reference="ANSSI-BP-028 R14",
    )


def _ptrace_scope(sysroot: Path) -> Check:
    """Judge Yama; a kernel without it has the danger, so that is no NA."""
    path = sysroot / "proc/sys/kernel/yama/ptrace_scope"
    value = _read(path)
    built_without = value is None and (sysroot / "proc/sys/kernel").is_dir() and not path.parent.exists()
    found = (
        "a kernel without Yama: any process of a user may trace another"
        if built_without
        else _shown(value, path)
    )
    return Check(
        id="memory.ptrace-scope",
        title="Processes cannot trace one another",
        severity=Severity.ADVISED,  # our own processes are not dumpable, which stops it for them
        expected="1, 2 or 3",
        found=found,
        status=Status.FAIL if built_without else _judge(value, good=(value or "").strip() in ("1", "2", "3")),
        evidence=str(path),
        mend="sysctl kernel.yama.ptrace_scope=3, on a kernel with Yama",
        reference="ANSSI-BP-028 R11",
    )


def _judge(value: str | None, *, good: bool) -> Status:
    if value is None:
        return Status.UNKNOWN
    return Status.OK if good else Status.FAIL


def _shown(value: str | None, path: Path) -> str:
    return f"{path} cannot be read" if value is None else repr(value.strip())


def _read(path: Path) -> str | None:
    """Return a small file's text; None where it cannot be read, or is larger than any such file is."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_READ + 1)
    except OSError:
        return None
    return data.decode("utf-8", errors="replace") if len(data) <= _MAX_READ else None


def _folder_names(path: Path) -> set[str] | None:
    """Return the names of folders (and links to them) in a folder; None where it cannot be read."""
    try:
        return {entry.name for entry in path.iterdir() if entry.is_symlink() or entry.is_dir()}
    except OSError:
        return None
