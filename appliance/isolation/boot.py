"""What was decided when the host was started: how far root is bound, whose kernel it is, what runs beside us.

Source: kernel_lockdown(7), Documentation/admin-guide/kernel-parameters.txt, UEFI 2.10 section 3.3.
"""

from __future__ import annotations

import os
from pathlib import Path

from appliance.isolation.check import Check, Severity, Status, judge, read, shown

_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_CLOCK_DAEMONS = frozenset({"chronyd", "ntpd", "openntpd", "systemd-timesyn", "ptp4l", "phc2sys"})


def lockdown(sysroot: Path) -> Check:
    """Judge whether root can reach into the kernel's memory."""
    path = sysroot / "sys/kernel/security/lockdown"
    value = read(path)
    return Check(
        id="boot.lockdown",
        title="Root does not reach into the kernel",
        severity=Severity.ADVISED,
        expected="integrity or confidentiality",
        found=shown(value, path),
        status=judge(
            value, good=any(f"[{word}]" in (value or "") for word in ("integrity", "confidentiality"))
        ),
        evidence=str(path),
        mend="lockdown=confidentiality on the boot line",
        reference="KSPP",
    )


def secure_boot(sysroot: Path) -> Check:
    """Judge whether the firmware let only a signed kernel start."""
    path = sysroot / _SECURE_BOOT
    try:
        value: bytes | None = path.read_bytes()[:8]
    except OSError:
        value = None
    started_without = value is None and (sysroot / "sys/firmware").is_dir() and not path.parent.exists()
    if started_without:
        status, found = Status.FAIL, "started without UEFI"
    else:
        status = judge(None if value is None else "", good=value is not None and value[4:5] == b"\x01")
        found = "on" if status is Status.OK else "off" if value is not None else f"{path} cannot be read"
    return Check(
        id="boot.secure-boot",
        title="The firmware starts signed kernels only",
        severity=Severity.ADVISED,
        expected="on",
        found=found,
        status=status,
        evidence=str(path),
        mend="switch Secure Boot on in the firmware",
        reference="ANSSI-BP-028 R3",
    )


def init_on_free(sysroot: Path) -> Check:
    """Judge whether memory that is given back is overwritten."""
    line, release = read(sysroot / "proc/cmdline"), read(sysroot / "proc/sys/kernel/osrelease")
    config = read(sysroot / "boot" / f"config-{(release or '').strip()}")
    built_in = "CONFIG_INIT_ON_FREE_DEFAULT_ON=y" in (config or "").splitlines()
    words = (line or "").split()
    known = line is not None and (config is not None or any(w.startswith("init_on_free=") for w in words))
    good = "init_on_free=1" in words or (built_in and "init_on_free=0" not in words)
    return Check(
        id="boot.init-on-free",
        title="Memory that is given back is overwritten",
        severity=Severity.ADVISED,
        expected="init_on_free=1",
        found="on" if good else "off" if known else "neither the boot line nor the kernel's build says",
        status=judge("" if known else None, good=good),
        evidence=str(sysroot / "proc/cmdline"),
        mend="init_on_free=1 on the boot line",
        reference="ANSSI-BP-028 R8",
    )


def clock_daemons(sysroot: Path) -> Check:
    """Look for programs that set the clock by somebody else's word."""
    proc = sysroot / "proc"
    try:
        pids = [name for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208  a name is all that is needed
    except OSError:
        pids = []
    names = sorted({(read(proc / pid / "comm") or "").strip() for pid in pids} & _CLOCK_DAEMONS)
    return Check(
        id="boot.clock-daemons",
        title="Nobody else sets the clock",
        severity=Severity.ADVISED,
        expected="none",
        found=", ".join(names) or ("none" if pids else f"{proc} shows no process"),
        status=judge("" if pids else None, good=not names),
        evidence=f"{proc}/*/comm",
        mend="systemctl disable --now that service; officers set the time: `appliance clock`",
        reference="",
    )
