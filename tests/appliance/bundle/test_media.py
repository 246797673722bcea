"""What the kernel says about media, read from a tree made like its own; names only, never contents."""

import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.bundle.media import bundle_at, devices, folder_of, listing
from appliance.cli import media as media_verbs
from appliance.cli.root import appliance
from appliance.errors import MediumMissing, UsageError


class Machine:
    """A /sys and /proc with a fixed disk; sticks and cards are added."""

    def __init__(self, root):
        self.root = root
        self.mounts = []
        (root / "sys/block").mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)
        self.disk("sda", "pci0000:00/ata1", "8:0", removable="0", parts={"sda1": "8:1"})
        self.mount("8:1", "/", "ext4")

    def disk(self, name, where, dev, *, removable="1", size=2048, parts=(), ro="0"):
        folder = self.root / "sys/devices" / where / name
        self._block(folder, dev, size, ro)
        (folder / "removable").write_text(f"{removable}\n")
        (folder / "device").mkdir()
        (folder / "device/vendor").write_text("Acme    \n")
        (folder / "device/model").write_text("Stick\n")
        for part in parts:
            self._block(folder / part, parts[part], size // 2, ro)
            (folder / part / "partition").write_text("1\n")
        (self.root / "sys/block" / name).symlink_to(folder)

    def _block(self, folder, dev, size, ro):
        folder.mkdir(parents=True)
        (folder / "dev").write_text(f"{dev}\n")
        (folder / "size").write_text(f"{size}\n")
        (folder / "ro").write_text(f"{ro}\n")

    def mount(self, dev, folder, filesystem):
        escaped = str(folder).replace(" ", r"\040")
        self.mounts.append(f"36 35 {dev} / {escaped} rw,noatime shared:1 - {filesystem} /dev/x rw")
        (self.root / "proc/self/mountinfo").write_text("\n".join(self.mounts) + "\n")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "root")


@pytest.fixture
def stick(tmp_path):
    folder = tmp_path / "my stick"
    for name in ("0a1b2c3d.bundle", "11111111.bundle", "22222222.bundle", "33333333.approval", "._x"):
        (folder / name).mkdir(parents=True)
    (folder / "0a1b2c3d.bundle/manifest.json").write_text("not even json")
    (folder / "22222222.bundle/unfinished.json").write_text("")
    (folder / "44444444.bundle").symlink_to(folder / "0a1b2c3d.bundle")
    (folder / "holiday.jpg").write_bytes(b"")
    return folder


def test_only_removable_devices_are_told(machine, stick):
    machine.disk("sdb", "pci0000:00/usb1/1-1", "8:16", removable="0", parts={"sdb1": "8:17"})
    machine.disk("sdc", "pci0000:00/ata2", "8:32", ro="1")
    machine.disk("sdd", "pci0000:00/usb1/1-2", "8:48", size=0)
    machine.mount("8:17", stick, "vfat")
    found = devices(machine.root)
    assert [(each.path, each.folder, each.filesystem) for each in found] == [
        ("/dev/sdb1", stick, "vfat"),
        ("/dev/sdc", None, ""),
    ]
    assert [(each.model, each.size_bytes, each.write_protected) for each in found] == [
        ("Acme Stick", 1024 * 512, False),
        ("Acme Stick", 2048 * 512, True),
    ]


def test_a_device_that_is_pulled_while_it_is_read_is_not_there(machine):
    machine.disk("sdb", "pci0000:00/usb1/1-1", "8:16")
    (machine.root / "sys/devices/pci0000:00/usb1/1-1/sdb/size").unlink()
    assert devices(machine.root) == ()


def test_names_on_a_medium_are_sorted_into_kinds_and_nothing_is_opened(stick):
    found = listing(stick)
    assert found.bundles == ("0a1b2c3d.bundle",)
    assert found.unfinished == ("11111111.bundle", "22222222.bundle")
    assert found.approvals == ("33333333.approval",)
    assert found.foreign == ("._x",)


def test_the_only_bundle_on_a_medium_is_meant(stick):
    assert bundle_at(stick) == stick / "0a1b2c3d.bundle"
    assert bundle_at(stick / "0a1b2c3d.bundle") == stick / "0a1b2c3d.bundle"
    (stick / "11111111.bundle/manifest.json").write_text("")
    with pytest.raises(UsageError, match=r"found 0a1b2c3d\.bundle, 11111111\.bundle: name one"):
        bundle_at(stick)


def test_a_medium_without_a_bundle_is_the_wrong_one(stick, tmp_path):
    (stick / "0a1b2c3d.bundle/manifest.json").unlink()
    with pytest.raises(MediumMissing, match="only unfinished ones"):
        bundle_at(stick)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediumMissing, match="found none: was the right medium inserted"):
        bundle_at(tmp_path / "empty")
    with pytest.raises(MediumMissing, match="No such file"):
        bundle_at(tmp_path / "nothing")


def as_device(monkeypatch, path, number):
    """Have one path look like a block device: making one takes rights that no test has."""
    real = Path.stat

    def stat_(self, **options):
        if self == path:
            return os.stat_result((stat.S_IFBLK | 0o660, *([0] * 9)), {"st_rdev": number})
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat_)


def test_a_device_means_the_folder_where_it_is_mounted(machine, stick, monkeypatch):
    device = machine.root / "sdb1"
    as_device(monkeypatch, device, os.makedev(8, 17))
    with pytest.raises(MediumMissing, match="mount -o ro,nosuid,nodev,noexec"):
        folder_of(device, machine.root)
    machine.mount("8:17", stick, "vfat")
    assert folder_of(device, machine.root) == stick
    assert bundle_at(device, machine.root) == stick / "0a1b2c3d.bundle"


def test_the_command_tells_devices_and_names(machine, stick, monkeypatch):
    machine.disk("sdb", "pci0000:00/usb1/1-1", "8:16", parts={"sdb1": "8:17", "sdb2": "8:18"})
    machine.mount("8:17", stick, "vfat")
    monkeypatch.setattr(media_verbs, "devices", lambda: devices(machine.root))
    told = CliRunner().invoke(appliance, ["media", "list"])
    assert told.exit_code == 0, told.output
    assert "bundle" in told.output
    assert "0a1b2c3d.bundle" in told.output
    assert "no: `mount -o ro,nosuid,nodev,noexec /dev/sdb2 /mnt`" in told.output
    as_json = CliRunner().invoke(appliance, ["media", "list", "--json"])
    assert '"bundles": [\n      "0a1b2c3d.bundle"\n    ]' in as_json.output


def test_no_medium_is_said(machine, monkeypatch):
    monkeypatch.setattr(media_verbs, "devices", lambda: devices(machine.root))
    assert "insert one" in CliRunner().invoke(appliance, ["media", "list"]).stderr


def test_this_machine_can_be_read():
    assert isinstance(devices(), tuple)
