"""Trees that look like /proc and /sys of a host on which every required check holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.isolation.sysctls import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOOPBACK_ONLY = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n"
MOUNTS = "22 1 0:20 / / rw,relatime - ext4 /dev/sda1 rw\n23 22 0:21 / /proc rw - proc proc rw\n"
SOUND_HOST: Mapping[str, str] = {
    "sys/class/net/lo/ifindex": "1\n",
    "proc/self/net/dev": LOOPBACK_ONLY,
    "proc/1/net/dev": LOOPBACK_ONLY,
    "proc/self/mountinfo": MOUNTS,
    "sys/bus/pci/devices/0000:00:00.0/class": "0x060000\n",
    "proc/swaps": "Filename\t\t\tType\t\tSize\tUsed\tPriority\n",
    "proc/meminfo": "MemTotal: 1 kB\nSwapTotal:             0 kB\n",
    "proc/sys/kernel/core_pattern": "core\n",
    "proc/sys/fs/suid_dumpable": "0\n",
    "proc/sys/kernel/yama/ptrace_scope": "1\n",
    "proc/cmdline": "quiet init_on_free=1\n",
    "proc/1/comm": "init\n",
    "sys/kernel/security/lockdown": "none [integrity] confidentiality\n",
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\6\0\0\0\1",
    **{f"proc/sys/{setting.path}": f"{setting.accepted[0]}\n" for setting in SETTINGS},
}


def write_host(root: Path, changed: Mapping[str, str] | None = None, *, without: str = "") -> Path:
    """Write a sound host below `root`, some files changed or added, those that contain `without` left out."""
    for path, text in {**SOUND_HOST, **(changed or {})}.items():
        if without and without in path:
            continue
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    join_namespace(root, "1", "4026531840")
    return root


def join_namespace(root: Path, pid: str, inode: str) -> None:
    """Have a process be in a network namespace."""
    (root / "proc" / pid / "ns").mkdir(parents=True, exist_ok=True)
    (root / "proc" / pid / "ns/net").symlink_to(f"net:[{inode}]")
