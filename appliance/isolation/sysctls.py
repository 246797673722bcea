"""Settings of the kernel that a stock system leaves weaker than this work needs, one line each.

Guarantee, to `doctor`: one table gives the checks and the profile that `doctor --fix` writes, so that a host
with the profile passes them. A setting that the running kernel does not have is NA; one that cannot be read
is UNKNOWN.

Source: Documentation/admin-guide/sysctl of Linux; ANSSI-BP-028 v2 (R numbers); KSPP, the recommended settings
of the Kernel Self-Protection Project.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.isolation.check import Check, Severity, Status, judge, read, shown


@dataclass(frozen=True, slots=True)
class Setting:
    """One sysctl: what is written by the profile comes first among what is accepted."""

    key: str
    accepted: tuple[str, ...]
    title: str
    reference: str

    @property
    def path(self) -> str:
        """Where the kernel shows it, below /proc/sys."""
        return self.key.replace(".", "/")


SETTINGS = (
    Setting("kernel.kexec_load_disabled", ("1",), "No other kernel can be started from this one", "KSPP"),
    Setting("kernel.unprivileged_bpf_disabled", ("1", "2"), "Users load no BPF programs", "ANSSI-BP-028 R9"),
    Setting("vm.unprivileged_userfaultfd", ("0",), "Users handle no page faults of the kernel", "KSPP"),
    Setting("kernel.io_uring_disabled", ("2", "1"), "Users have no io_uring", "KSPP"),
    Setting("kernel.dmesg_restrict", ("1",), "Users do not read the kernel's messages", "ANSSI-BP-028 R9"),
    Setting("kernel.kptr_restrict", ("2", "1"), "Users see no addresses of the kernel", "ANSSI-BP-028 R9"),
    Setting("kernel.perf_event_paranoid", ("3", "2"), "Users do not measure the kernel", "ANSSI-BP-028 R9"),
    Setting("kernel.randomize_va_space", ("2",), "Addresses are drawn by chance", "ANSSI-BP-028 R9"),
    Setting("kernel.sysrq", ("0",), "The keyboard commands no kernel", "ANSSI-BP-028 R9"),
    Setting("dev.tty.ldisc_autoload", ("0",), "Terminals load no modules", "KSPP"),
    Setting("net.core.bpf_jit_harden", ("2",), "Compiled BPF programs are blinded", "ANSSI-BP-028 R12"),
    Setting("fs.protected_symlinks", ("1",), "Links in shared folders are not followed", "ANSSI-BP-028 R14"),
    Setting("fs.protected_hardlinks", ("1",), "Files of others are not linked to", "ANSSI-BP-028 R14"),
    Setting("fs.protected_fifos", ("2", "1"), "Pipes of others are not opened as files", "ANSSI-BP-028 R14"),
    Setting("fs.protected_regular", ("2", "1"), "Files of others are not opened as new", "ANSSI-BP-028 R14"),
)
# What other checks judge; the profile sets it as well.
ALSO = {
    "kernel.core_pattern": "core",
    "fs.suid_dumpable": "0",
    "kernel.yama.ptrace_scope": "3",
    "vm.swappiness": "0",
}


def check_of(setting: Setting) -> Callable[[Path], Check]:
    """Return the check of one setting."""

    def check(sysroot: Path) -> Check:
        path = sysroot / "proc/sys" / setting.path
        value = read(path)
        if value is None and path.parent.is_dir() and not path.exists():
            status, found = Status.NA, "a kernel without it"
        else:
            status = judge(value, good=(value or "").strip() in setting.accepted)
            found = shown(value, path)
        return Check(
            id=f"sysctl.{setting.key}",
            title=setting.title,
            severity=Severity.ADVISED,
            expected=" or ".join(setting.accepted),
            found=found,
            status=status,
            evidence=str(path),
            mend=f"sysctl {setting.key}={setting.accepted[0]}, or `appliance doctor --fix /`",
            reference=setting.reference,
        )

    check.__name__ = setting.key
    return check
