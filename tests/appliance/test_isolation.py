"""The host's facts, read from trees that show each failing case."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.errors import UsageError
from appliance.isolation import Check, Severity, Status, checks, examine, isolated
from appliance.isolation.abilities import abilities
from appliance.isolation.profile import files, write_profile
from appliance.isolation.sysctls import ALSO, SETTINGS
from tests.hosts import LOOPBACK_ONLY, MOUNTS, SOUND_HOST, join_namespace, write_host

SWAPS = SOUND_HOST["proc/swaps"]


def by_id(root: Path) -> dict[str, Check]:
    return {check.id: check for check in examine(root)}


def test_a_sound_host_is_isolated(tmp_path):
    found = examine(write_host(tmp_path))
    assert {check.id: check.status for check in found if not check.holds} == {}
    assert isolated(found)


@pytest.mark.parametrize(
    ("path", "text", "failed", "found"),
    [
        ("sys/class/net/eth0/ifindex", "2\n", "network.interfaces", "eth0"),
        ("proc/self/net/dev", LOOPBACK_ONLY + "  lo: 0\nwlan0: 0\n", "network.interfaces", "wlan0"),
        ("proc/swaps", SWAPS + "/dev/sda2 partition 1 0 -2\n", "memory.swap", "in clear: /dev/sda2"),
        ("proc/swaps", SWAPS + "/swapfile file 1 0 -2\n", "memory.swap", "in clear: /swapfile"),
        ("proc/swaps", SWAPS + "/dev/zram0 partition 1 0 -2\n", "memory.swap", "in clear: /dev/zram0"),
        (
            "proc/sys/kernel/core_pattern",
            "|/usr/lib/systemd/systemd-coredump %P\n",
            "memory.core-pattern",
            "|",
        ),
        ("proc/sys/fs/suid_dumpable", "2\n", "memory.suid-dumpable", "'2'"),
        ("proc/sys/kernel/yama/ptrace_scope", "0\n", "memory.ptrace-scope", "'0'"),
    ],
)
def test_each_danger_fails_its_check(tmp_path, path, text, failed, found):
    root = write_host(tmp_path, {path: text})
    results = by_id(root)
    assert results[failed].status is Status.FAIL
    assert found in results[failed].found
    assert {name for name, check in results.items() if not check.holds} == {failed}
    assert isolated(checks(root)) is (results[failed].severity is Severity.ADVISED)


@pytest.mark.parametrize(
    ("missing", "unknown"),
    [
        ("proc/self/net/dev", "network.interfaces"),
        ("proc/sys/kernel/core_pattern", "memory.core-pattern"),
        ("proc/sys/fs/suid_dumpable", "memory.suid-dumpable"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_not_isolated(tmp_path, missing, unknown):
    root = write_host(tmp_path)
    (root / missing).unlink()
    assert by_id(root)[unknown].status is Status.UNKNOWN
    assert "cannot be read" in by_id(root)[unknown].found
    assert not isolated(checks(root))


def test_an_empty_tree_is_all_unknown_and_not_isolated(tmp_path):
    found = examine(tmp_path)
    assert {check.status for check in found if check.id != "hardware.management"} == {Status.UNKNOWN}
    assert not isolated(checks(tmp_path))


def test_no_checks_at_all_are_no_evidence():
    assert not isolated(())


@pytest.mark.parametrize(("total", "status"), [("0", Status.NA), ("4096", Status.UNKNOWN)])
def test_a_missing_swap_table_counts_only_where_the_kernel_has_no_swap(tmp_path, total, status):
    root = write_host(tmp_path, {"proc/meminfo": f"MemTotal: 1 kB\nSwapTotal: {total} kB\n"})
    (root / "proc/swaps").unlink()
    assert by_id(root)["memory.swap"].status is status
    assert isolated(checks(root)) is (status is Status.NA)


def test_encrypted_swap_and_memory_swap_are_no_danger(tmp_path):
    areas = "/dev/dm-0 partition 1 0 -2\n/dev/zram0 partition 1 0 -2\n"
    root = write_host(
        tmp_path,
        {
            "proc/swaps": SWAPS + areas,
            "sys/block/dm-0/dm/uuid": "CRYPT-PLAIN-swap\n",
            "sys/block/zram0/backing_dev": "none\n",
        },
    )
    assert by_id(root)["memory.swap"].status is Status.OK


def test_plain_device_mapper_swap_is_in_clear(tmp_path):
    files = {"proc/swaps": SWAPS + "/dev/dm-0 partition 1 0 -2\n", "sys/block/dm-0/dm/uuid": "LVM-abc\n"}
    assert by_id(write_host(tmp_path, files))["memory.swap"].status is Status.FAIL


def test_a_kernel_without_yama_has_the_danger(tmp_path):
    root = write_host(tmp_path, without="yama")
    assert by_id(root)["memory.ptrace-scope"].status is Status.FAIL


def test_a_file_far_larger_than_any_such_file_is_unknown(tmp_path):
    root = write_host(tmp_path, {"proc/sys/fs/suid_dumpable": "0" * 300_000})
    assert by_id(root)["memory.suid-dumpable"].status is Status.UNKNOWN


def test_every_check_says_how_to_mend_it_and_this_host_can_be_asked():
    for check in (*examine(), *abilities()):
        assert check.title
        assert check.expected
        assert check.found
        assert check.mend
        assert check.evidence


def test_an_interface_that_was_moved_to_another_namespace_is_found(tmp_path):
    root = write_host(
        tmp_path, {"proc/7/net/dev": LOOPBACK_ONLY, "proc/9/net/dev": LOOPBACK_ONLY + "wlan0: 0\n"}
    )
    join_namespace(root, "7", "4026531840")
    assert by_id(root)["network.namespaces"].found == "1 namespaces, loopback only"
    join_namespace(root, "9", "4026532288")
    found = by_id(root)["network.namespaces"]
    assert (found.status, found.found) == (Status.FAIL, "wlan0 in net:[4026532288] of process 9")
    assert not isolated(checks(root))


def test_a_namespace_that_only_a_mount_keeps_is_found(tmp_path):
    pinned = "90 22 0:4 net:[4026532288] /run/netns/x rw - nsfs nsfs rw\n"
    found = by_id(write_host(tmp_path, {"proc/self/mountinfo": MOUNTS + pinned}))["network.namespaces"]
    assert (found.status, found.found) == (Status.FAIL, "net:[4026532288], in which no process is")


def test_hidden_processes_are_not_taken_for_none(tmp_path):
    root = write_host(tmp_path, without="proc/1/")
    (root / "proc/1/ns/net").unlink()
    join_namespace(root, "50", "4026531840")
    (root / "proc/50/net").mkdir()
    (root / "proc/50/net/dev").write_text(LOOPBACK_ONLY)
    assert by_id(root)["network.namespaces"].status is Status.UNKNOWN


@pytest.mark.parametrize(
    ("mount", "status"),
    [
        ("80 22 0:50 / /mnt rw - nfs4 server:/x rw,vers=4.2", Status.FAIL),
        ("80 22 0:50 / /mnt rw - fuse.sshfs a@b:/x rw", Status.FAIL),
        ("80 22 0:50 / /mnt rw - 9p host rw,trans=tcp,port=564", Status.FAIL),
        ("80 22 0:50 / /mnt rw - 9p share rw,trans=virtio", Status.OK),
        ("80 22 0:50 / /mnt rw shared:4 - vfat /dev/sdb1 rw", Status.OK),
        ("80 22 - nfs", Status.FAIL),
    ],
)
def test_a_network_file_system_is_a_way_out(tmp_path, mount, status):
    root = write_host(tmp_path, {"proc/self/mountinfo": f"{MOUNTS}{mount}\n"})
    assert by_id(root)["network.file-systems"].status is status


def test_a_table_of_mounts_that_is_none_is_unknown(tmp_path):
    root = write_host(tmp_path, {"proc/self/mountinfo": "garbage\n"})
    assert by_id(root)["network.file-systems"].status is Status.UNKNOWN


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_each_setting_fails_by_another_value_and_is_na_where_the_kernel_lacks_it(tmp_path, setting):
    path = f"proc/sys/{setting.path}"
    name = f"sysctl.{setting.key}"
    root = write_host(tmp_path / "weak", {path: "77\n"})
    assert by_id(root)[name].status is Status.FAIL
    assert setting.accepted[0] in by_id(root)[name].mend
    lacking = write_host(tmp_path / "lacking", {f"{path}.other": "1\n"}, without=f"{path}\0")
    (lacking / path).unlink()
    assert by_id(lacking)[name].status is Status.NA
    assert isolated(checks(root))


@pytest.mark.parametrize(
    ("path", "text", "failed", "status"),
    [
        ("sys/bus/pci/devices/0000:00:03.0/class", "0x020000\n", "hardware.adapters", Status.FAIL),
        ("sys/bus/virtio/devices/virtio0/device", "0x0001\n", "hardware.virtio", Status.FAIL),
        ("sys/bus/virtio/devices/virtio1/device", "0x0013\n", "hardware.virtio", Status.FAIL),
        ("sys/bus/virtio/devices/virtio2/device", "0x0002\n", "hardware.virtio", Status.OK),
        ("sys/class/bluetooth/hci0/name", "x", "hardware.radios", Status.FAIL),
        ("sys/class/wwan/wwan0/name", "x", "hardware.radios", Status.FAIL),
        ("sys/bus/usb/devices/usb1/authorized_default", "1\n", "hardware.usb", Status.FAIL),
        ("sys/bus/usb/devices/usb1/authorized_default", "2\n", "hardware.usb", Status.OK),
        ("dev/ipmi0", "", "hardware.management", Status.UNKNOWN),
        ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n", "boot.lockdown", Status.FAIL),
        ("proc/cmdline", "quiet\n", "boot.init-on-free", Status.UNKNOWN),
        ("proc/cmdline", "init_on_free=0\n", "boot.init-on-free", Status.FAIL),
        ("proc/1/comm", "chronyd\n", "boot.clock-daemons", Status.FAIL),
    ],
)
def test_each_device_and_choice_at_the_start_is_judged(tmp_path, path, text, failed, status):
    root = write_host(tmp_path, {path: text})
    device = (root / path).parent
    if "devices/" in path:
        (device / "driver").mkdir(exist_ok=True)
    assert by_id(root)[failed].status is status


def test_an_adapter_without_a_driver_is_inert(tmp_path):
    root = write_host(tmp_path, {"sys/bus/pci/devices/0000:00:03.0/class": "0x028000\n"})
    assert by_id(root)["hardware.adapters"].status is Status.OK


def test_a_host_started_without_secure_boot_or_uefi_is_told(tmp_path):
    name = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    off = write_host(tmp_path / "off", {name: "\6\0\0\0\0"})
    assert by_id(off)["boot.secure-boot"].found == "off"
    bios = write_host(tmp_path / "bios", {"sys/firmware/acpi/tables": ""}, without="efivars")
    assert by_id(bios)["boot.secure-boot"].found == "started without UEFI"


def test_a_check_that_hangs_is_unknown_and_holds_up_nobody(tmp_path):
    root = write_host(tmp_path, without="suid_dumpable")
    os.mkfifo(root / "proc/sys/fs/suid_dumpable")
    found = {check.id: check for check in examine(root, deadline_s=0.3)}
    hung = found["memory.suid_dumpable"]
    assert (hung.status, hung.found) == (Status.UNKNOWN, "no answer within 0.3 s")
    assert found["memory.swap"].status is Status.OK
    assert not isolated(tuple(found.values()))
    (root / "proc/sys/fs/suid_dumpable").open("w").close()  # lets the thread go


def test_a_table_that_makes_a_check_stumble_is_unknown(tmp_path):
    root = write_host(tmp_path, {"proc/swaps": "Filename\n   \n \t\n"})
    assert by_id(root)["memory.swap"].status is Status.OK
    (root / "sys/class/net").rename(root / "sys/class/other")
    (root / "sys/class/net").write_text("no folder")
    assert by_id(root)["network.interfaces"].status is Status.UNKNOWN


def test_the_profile_sets_what_the_checks_ask_for(tmp_path):
    root = write_host(tmp_path / "host")
    for setting in SETTINGS:
        (root / "proc/sys" / setting.path).write_text("77\n")
    written = write_profile(root)
    assert [str(path.relative_to(root)) for path in written] == list(files())
    for line in (root / "etc/sysctl.d/90-appliance.conf").read_text().splitlines()[1:]:
        key, value = line.split(" = ")
        path = root / "proc/sys" / key.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")  # what `sysctl --system` does
    assert {check.id for check in examine(root) if not check.holds} == set()
    assert set(ALSO) & {"kernel.core_pattern", "fs.suid_dumpable"}
    assert write_profile(root) == written, "twice is as good as once"
    assert not list(root.rglob("*.part"))


def test_a_profile_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "etc").write_text("a file where a folder should be")
    with pytest.raises(UsageError, match="was not written"):
        write_profile(tmp_path)
