"""The shipped profile of a host: files for sysctl.d and modprobe.d, and what only the boot line can change.

Guarantee: with the files in force and the words on the boot line, every check that a setting can turn is OK.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from appliance.errors import UsageError
from appliance.isolation.sysctls import ALSO, SETTINGS

BOOT_LINE = (
    *("init_on_free=1", "lockdown=confidentiality", "usbcore.authorized_default=2", "secretmem.enable=1"),
    *("slab_nomerge", "vsyscall=none", "debugfs=off"),
)
# Families of drivers for ways out; `install … /bin/false` holds for what asks by name as well as by alias.
REFUSED_MODULES = (
    *("bluetooth", "btusb", "cfg80211", "mac80211", "nfc", "wwan", "rndis_host", "cdc_ether", "cdc_ncm"),
    *(
        "cdc_mbim",
        "qmi_wwan",
        "usbnet",
        "ipheth",
        "vsock",
        "vhost_vsock",
        "ib_core",
        "rdma_cm",
        "firewire_core",
    ),
    *("thunderbolt_net", "nfs", "cifs", "ceph", "dccp", "sctp", "rds", "tipc", "can", "atm", "ax25"),
)
_HEAD = "# Written by `appliance doctor --fix`; changes here are overwritten.\n"


def files() -> dict[str, str]:
    """Return the profile's files by their path below the root."""
    values = {**{setting.key: setting.accepted[0] for setting in SETTINGS}, **ALSO}
    sysctl = "".join(f"{key} = {value}\n" for key, value in values.items())
    modules = "".join(f"install {name} /bin/false\n" for name in REFUSED_MODULES)
    return {
        "etc/sysctl.d/90-appliance.conf": _HEAD + sysctl,
        "etc/modprobe.d/appliance.conf": _HEAD + modules,
    }


def write_profile(root: Path) -> tuple[Path, ...]:
    """Write the files below a root; `sysctl --system` and the next start read them. Raises UsageError."""
    written = []
    for name, text in files().items():
        path = root / name
        half = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            half.write_text(text, "utf-8")
            half.replace(path)
        except OSError as refused:
            with contextlib.suppress(OSError):
                half.unlink()
            raise UsageError(f"{path} was not written: {refused.strerror}; repeat as root") from refused
        written.append(path)
    return tuple(written)
