"""Devices that are ways out whatever interfaces there are: adapters with a driver, radios, vsock, USB.

An adapter without a driver is inert until somebody loads one; `doctor --fix` has modprobe refuse to.

KNOWN: a management controller (IPMI, BMC, Intel AMT) has a network of its own that the host cannot see.

Source: sysfs(5), PCI Code and ID Assignment (class 02), virtio 1.2 section 5 (device ids), linux/usb.
"""

from __future__ import annotations

from pathlib import Path

from appliance.isolation.check import Check, Severity, Status, folder_names, judge, read

_NETWORK_CLASS = "0x02"
_VIRTIO = {"0x0001": "network", "0x0013": "vsock"}
_RADIOS = ("bluetooth", "ieee80211", "rfkill", "wwan", "nfc", "infiniband")


def adapters(sysroot: Path) -> Check:
    """Look for network adapters on PCI that a driver has taken."""
    folder = sysroot / "sys/bus/pci/devices"
    taken = [
        name
        for name in sorted(folder_names(folder) or ())
        if (read(folder / name / "class") or _NETWORK_CLASS).startswith(_NETWORK_CLASS)
        and (folder / name / "driver").exists()
    ]
    return _devices(sysroot, "pci", "hardware.adapters", "No network adapter has a driver", taken)


def virtio(sysroot: Path) -> Check:
    """Look for network and vsock devices that a hypervisor gives and a driver has taken."""
    folder = sysroot / "sys/bus/virtio/devices"
    taken = [
        f"{name} ({_VIRTIO.get(kind, 'unreadable')})"
        for name in sorted(folder_names(folder) or ())
        if (kind := (read(folder / name / "device") or "?").strip()) in (*_VIRTIO, "?")
        and (folder / name / "driver").exists()
    ]
    title = "No virtual network or vsock device has a driver"
    return _devices(sysroot, "virtio", "hardware.virtio", title, taken)


def radios(sysroot: Path) -> Check:
    """Look for radios and fabrics, which show here before any interface does."""
    classes = sysroot / "sys/class"
    built = folder_names(classes)
    found = [f"{kind}/{name}" for kind in _RADIOS for name in sorted(folder_names(classes / kind) or ())]
    return Check(
        id="hardware.radios",
        title="No radio and no fabric",
        severity=Severity.REQUIRED,
        expected="none",
        found=f"{classes} cannot be read" if built is None else ", ".join(found) or "none",
        status=judge(None if built is None else "", good=not found),
        evidence=", ".join(str(classes / kind) for kind in _RADIOS),
        mend="remove the device, or its driver: `appliance doctor --fix /` has modprobe refuse them",
        reference="",
    )


def usb(sysroot: Path) -> Check:
    """Judge whether a USB device works as soon as it is plugged in."""
    folder = sysroot / "sys/bus/usb/devices"
    buses = folder_names(sysroot / "sys/bus")
    hubs = [name for name in sorted(folder_names(folder) or ()) if name.startswith("usb")]
    values = {name: (read(folder / name / "authorized_default") or "?").strip() for name in hubs}
    if not hubs and buses is not None:
        status, found = Status.NA, "no USB host"
    else:
        known = None if buses is None or "?" in values.values() else ""
        status = judge(known, good=set(values.values()) <= {"0", "2"})
        found = ", ".join(f"{name}: {value}" for name, value in values.items()) or f"{folder} cannot be read"
    return Check(
        id="hardware.usb",
        title="A USB device has to be let in",
        severity=Severity.ADVISED,
        expected="authorized_default 0, or 2 (what is built in)",
        found=found,
        status=status,
        evidence=f"{folder}/usb*/authorized_default",
        mend="usbcore.authorized_default=2 on the boot line; let a stick in with its `authorized` file",
        reference="",
    )


def management(sysroot: Path) -> Check:
    """Say that a management controller must be asked about: what it does is not to be seen from here."""
    device = sysroot / "dev/ipmi0"
    there = device.exists()
    return Check(
        id="hardware.management",
        title="The management controller's network is cut off",
        severity=Severity.ADVISED,
        expected="no controller, or one whose cable is out",
        found="a controller is there" if there else "none that the host shows",
        status=Status.UNKNOWN if there else Status.OK,
        evidence=str(device),
        mend="ask whoever runs the machine room; pull its cable and switch sharing of the host's port off",
        reference="",
    )


def _devices(sysroot: Path, bus: str, name: str, title: str, taken: list[str]) -> Check:
    buses = folder_names(sysroot / "sys/bus")
    folder = sysroot / "sys/bus" / bus / "devices"
    if buses is not None and bus not in buses:
        status, found = Status.NA, f"no {bus} bus"
    elif folder_names(folder) is None:
        status, found = Status.UNKNOWN, f"{folder} cannot be read"
    else:
        status, found = judge("", good=not taken), ", ".join(taken) or "none"
    return Check(
        id=name,
        title=title,
        severity=Severity.REQUIRED,
        expected="none",
        found=found,
        status=status,
        evidence=str(folder),
        mend="remove the device, or its driver: `appliance doctor --fix /` has modprobe refuse them",
        reference="",
    )
