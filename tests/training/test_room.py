"""The memory that a process may take, with files as both versions of control groups write them."""

from __future__ import annotations

import pytest

from appliance.training import memory
from appliance.training.room import machine_bytes, room_bytes

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "31 23 0:27 {root} /sys/fs/cgroup/memory rw,nosuid shared:5 - cgroup cgroup rw,memory\n"
CPU = "32 23 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
NONE_V1 = "9223372036854771712\n"  # how version 1 writes that there is no limit
MIB = 2**20


@pytest.fixture
def host(tmp_path):
    """Write what the kernel would say; return the room it leaves."""

    def room(cgroup, mounts, limits):
        proc = tmp_path / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(cgroup)
        (proc / "mountinfo").write_text(mounts)
        for path, text in limits.items():
            file = tmp_path / "sys/fs/cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return room_bytes(tmp_path)

    return room


def test_a_limit_of_version_2_counts(host):
    limits = {"user/app/memory.max": f"{300 * MIB}\n", "user/memory.max": "max\n"}
    assert host("0::/user/app\n", V2.format(root="/"), limits) == 300 * MIB


def test_a_tighter_limit_of_a_group_above_counts(host):
    limits = {"user/app/memory.max": f"{300 * MIB}\n", "user/memory.max": f"{200 * MIB}\n"}
    assert host("0::/user/app\n", V2.format(root="/"), limits) == 200 * MIB


def test_a_limit_of_version_1_counts_beside_an_empty_version_2(host):
    limits = {
        "memory/jobs/a/memory.limit_in_bytes": f"{64 * MIB}\n",
        "memory/memory.limit_in_bytes": NONE_V1,
        "cpu/jobs/a/memory.limit_in_bytes": "1\n",  # another controller's hierarchy
    }
    groups = "9:cpu,cpuacct:/jobs/a\n4:memory:/jobs/a\n0::/\n"
    assert host(groups, CPU + V1.format(root="/"), limits) == 64 * MIB


def test_in_a_container_the_groups_are_where_they_are_mounted(host):
    limits = {"memory/inner/memory.limit_in_bytes": f"{70 * MIB}\n", "memory/memory.limit_in_bytes": NONE_V1}
    groups = "4:memory:/docker/abc/inner\n"
    assert host(groups, V1.format(root="/docker/abc"), limits) == 70 * MIB


def test_a_group_outside_of_what_is_mounted_has_the_limit_of_the_mount(host):
    limits = {"memory.max": f"{90 * MIB}\n"}
    assert host("0::/../../other\n", V2.format(root="/"), limits) == 90 * MIB


@pytest.mark.parametrize("limit", ["max\n", NONE_V1, "", "many\n", "-1\n"])
def test_what_is_no_limit_leaves_the_machine(host, limit):
    assert host("0::/a\n", V2.format(root="/"), {"a/memory.max": limit}) == machine_bytes()


@pytest.mark.parametrize(("cgroup", "mounts"), [("", ""), ("x\n0\n:::\n", "odd\n - \n1 2 3 - cgroup2\n")])
def test_nothing_or_nonsense_to_read_leaves_the_machine(host, cgroup, mounts):
    assert host(cgroup, mounts, {}) == machine_bytes()


def test_an_estimate_beyond_the_group_is_refused_in_its_name(config_of, monkeypatch):
    monkeypatch.setattr(memory, "room_bytes", lambda: 100 * MIB)
    with pytest.raises(
        memory.ContentRefused, match=r"the 100 MiB of the control group that this runs in, found an estimate"
    ):
        memory.check_memory(config_of(), 4)
    with pytest.raises(memory.ContentRefused, match=r"the 50 MiB of train\.memory, found an estimate"):
        memory.check_memory(config_of(memory=50), 4)


def test_this_host_leaves_some_room():
    assert 0 < room_bytes() <= machine_bytes()
