"""Ways out of the host: interfaces, in whatever network namespace, and file systems that lie elsewhere.

KNOWN: a network namespace that is held by nothing but an open descriptor is not seen; nor is one of another
user by a custodian that is not root.

Source: proc(5), sysfs(5), namespaces(7), network_namespaces(7).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from appliance.isolation.check import Check, Severity, Status, folder_names, read

_NETWORK_TYPES = frozenset(
    {
        *(
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "ceph",
            "afs",
            "coda",
            "lustre",
            "ocfs2",
            "gfs2",
            "orangefs",
        ),
        *(
            "beegfs",
            "gpfs",
            "fuse.sshfs",
            "fuse.glusterfs",
            "fuse.s3fs",
            "fuse.rclone",
            "fuse.curlftpfs",
            "davfs",
        ),
    }
)
_PINNED = re.compile(r"net:\[(\d+)\]")


def interfaces(sysroot: Path) -> Check:
    """Look in /sys, which shows the namespace it was mounted in, and in /proc, which shows our own."""
    folder, table = sysroot / "sys/class/net", sysroot / "proc/self/net/dev"
    seen = folder_names(folder)
    listed = read(table)
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


def namespaces(sysroot: Path) -> Check:
    """Look into every network namespace that a process is in, or that a mount keeps."""
    proc = sysroot / "proc"
    members, complete = _members(proc)
    others = []
    for inode, pid in members.items():
        table = read(proc / pid / "net/dev")
        if table is None:
            complete = complete and not (proc / pid).exists()  # a process that ended meanwhile
            continue
        names = sorted({line.partition(":")[0].strip() for line in table.splitlines()[2:]} - {"lo", ""})
        others += [f"{', '.join(names)} in net:[{inode}] of process {pid}"] if names else []
    others += [f"net:[{inode}], in which no process is" for inode in _pinned(proc) if inode not in members]
    if others:
        status, found = Status.FAIL, "; ".join(others[:8])
    elif complete and members:
        status, found = Status.OK, f"{len(members)} namespaces, loopback only"
    else:
        status, found = Status.UNKNOWN, "not every process's namespace may be looked into: only root may"
    return Check(
        id="network.namespaces",
        title="No interface but loopback in any other network namespace",
        # Who is not root cannot know; what root would see is still told, and what is seen counts.
        severity=Severity.ADVISED if status is Status.UNKNOWN and os.geteuid() != 0 else Severity.REQUIRED,
        expected="lo or none in each",
        found=found,
        status=status,
        evidence=f"{proc}/*/ns/net, {proc}/*/net/dev, {proc}/self/mountinfo",
        mend="end what runs in that namespace, `ip netns delete` it, or remove the adapter's driver",
        reference="",
    )


def file_systems(sysroot: Path) -> Check:
    """Judge what is mounted: a network file system is a way out that needs no socket of ours."""
    table = sysroot / "proc/self/mountinfo"
    listed = read(table)
    far = []
    for line in (listed or "").splitlines():
        mounted, _, rest = line.partition(" - ")
        kind, _, options = rest.partition(" ")
        if kind in _NETWORK_TYPES or (kind == "9p" and "trans=virtio" not in options):
            far.append(f"{kind} on {mounted.split()[4] if len(mounted.split()) > 4 else '?'}")
    if far:
        status, found = Status.FAIL, ", ".join(far[:8])
    elif not listed or " - " not in listed:
        status, found = Status.UNKNOWN, f"{table} cannot be read"
    else:
        status, found = Status.OK, f"{len(listed.splitlines())} mounts, all of this machine"
    return Check(
        id="network.file-systems",
        title="No network file system is mounted",
        severity=Severity.REQUIRED,
        expected="local file systems only",
        found=found,
        status=status,
        evidence=str(table),
        mend="umount it and take it out of /etc/fstab",
        reference="",
    )


def _members(proc: Path) -> tuple[dict[str, str], bool]:
    """Return one process of each network namespace, by inode, and whether every process could be asked."""
    members: dict[str, str] = {}
    first = denied = False
    try:
        pids = [name for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208  a name is all that is needed
    except OSError:
        return {}, False
    for pid in pids:
        try:
            link = str((proc / pid / "ns/net").readlink())
        except PermissionError:
            denied = True
            continue
        except OSError:
            continue  # it ended meanwhile
        first = first or pid == "1"  # where processes are hidden, the first is among them
        if found := _PINNED.fullmatch(link):
            members.setdefault(found[1], pid)
    return members, first and not denied


def _pinned(proc: Path) -> list[str]:
    """Return the inodes of network namespaces that a mount keeps alive."""
    lines = (read(proc / "self/mountinfo") or "").splitlines()
    return sorted({found[1] for line in lines if " - nsfs " in line and (found := _PINNED.search(line))})
