"""Ways in which memory could reach a disk or another process.

Source: proc(5), core(5), sysfs(5), Documentation/admin-guide/sysctl/kernel.rst and LSM/Yama.rst of Linux.
"""

from __future__ import annotations

from pathlib import Path

from appliance.isolation.check import Check, Severity, Status, judge, read, shown


def swap(sysroot: Path) -> Check:
    """Judge where memory may be swapped to."""
    table = sysroot / "proc/swaps"
    listed = read(table)
    if listed is not None:
        areas = [line.split()[0] for line in listed.splitlines()[1:] if line.strip()]
        clear = [area for area in areas if not _swap_is_safe(sysroot, area)]
        status = Status.FAIL if clear else Status.OK
        found = f"in clear: {', '.join(clear)}" if clear else f"{len(areas)} areas, none in clear"
    elif "SwapTotal:" not in (memory := read(sysroot / "proc/meminfo") or ""):
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
        return (read(block / "backing_dev") or "").strip() == "none"
    return (read(block / "dm/uuid") or "").startswith("CRYPT-")


def core_pattern(sysroot: Path) -> Check:
    """Judge where a dying process's memory goes."""
    path = sysroot / "proc/sys/kernel/core_pattern"
    value = read(path)
    piped = value is not None and value.lstrip().startswith("|")
    return Check(
        id="memory.core-pattern",
        title="Core dumps are not piped to a program",
        severity=Severity.REQUIRED,  # RLIMIT_CORE does not stop a pipe; exec undoes not-dumpable
        expected="a file name or nothing",
        found=shown(value, path),
        status=judge(value, good=not piped),
        evidence=str(path),
        mend="sysctl kernel.core_pattern=core",
        reference="",
    )


def suid_dumpable(sysroot: Path) -> Check:
    """Judge whether a process that changed its rights leaves its memory behind."""
    path = sysroot / "proc/sys/fs/suid_dumpable"
    value = read(path)
    return Check(
        id="memory.suid-dumpable",
        title="Programs that changed their rights leave no core dump",
        severity=Severity.REQUIRED,
        expected="0",
        found=shown(value, path),
        status=judge(value, good=value is not None and value.strip() == "0"),
        evidence=str(path),
        mend="sysctl fs.suid_dumpable=0",
        reference="ANSSI-BP-028 R14",
    )


def ptrace_scope(sysroot: Path) -> Check:
    """Judge Yama; a kernel without it has the danger, so that is no NA."""
    path = sysroot / "proc/sys/kernel/yama/ptrace_scope"
    value = read(path)
    built_without = value is None and (sysroot / "proc/sys/kernel").is_dir() and not path.parent.exists()
    found = (
        "a kernel without Yama: any process of a user may trace another"
        if built_without
        else shown(value, path)
    )
    return Check(
        id="memory.ptrace-scope",
        title="Processes cannot trace one another",
        severity=Severity.ADVISED,  # our own processes are not dumpable, which stops it for them
        expected="1, 2 or 3",
        found=found,
        status=Status.FAIL if built_without else judge(value, good=(value or "").strip() in ("1", "2", "3")),
        evidence=str(path),
        mend="sysctl kernel.yama.ptrace_scope=3, on a kernel with Yama",
        reference="ANSSI-BP-028 R11",
    )
