"""The units that ship: settings one by one, and what systemd's own judge says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.release.make import SCRIPT

UNITS = Path(__file__).parents[2] / "appliance" / "units"
MOST = {
    "appliance.service": 1.5,
    "appliance-front@.service": 0.5,
    "appliance-worker@.service": 0.5,
    "appliance-worker-gpu@.service": 0.6,
}
EVERYWHERE = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "IPAddressDeny": "any",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateMounts": "yes",
    "DevicePolicy": "closed",
    "PrivateIPC": "yes",
    "ProtectControlGroups": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectClock": "yes",
    "ProtectProc": "invisible",
    "NoExecPaths": "/",
    "ExecPaths": "/usr /opt/appliance",
    "KeyringMode": "private",
    "UMask": "0077",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
}
CHILDREN = {
    "PrivateNetwork": "yes",
    "PrivateUsers": "yes",
    "RestrictNamespaces": "yes",
    "RestrictAddressFamilies": "AF_UNIX",
}
CUSTODIAN = {
    "Type": "notify",
    "NotifyAccess": "main",
    "WatchdogSec": "30",
    "User": "appliance",
    "RestrictNamespaces": "user net mnt ipc",  # what the jail of its children needs
    "RestrictAddressFamilies": "AF_UNIX AF_NETLINK",  # its clients and children; the air-gap watch
    "PrivateDevices": "yes",
    "LimitMEMLOCK": "64M",
}
NVIDIA = ["char-nvidiactl rw", "char-nvidia-frontend rw", "char-nvidia-uvm rw", "char-nvidia-caps rw"]
NEVER = {
    *(
        "userfaultfd",
        "kcmp",
        "process_vm_readv",
        "process_vm_writev",
        "@privileged",
        "@resources",
        "@keyring",
    ),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
}
ALWAYS = {"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}


def settings(path: Path) -> dict[str, list[str]]:
    """Each setting of a unit with all its values, in their order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("name", MOST)
def test_each_setting_of_a_unit_is_as_it_should_be(name):
    found = settings(UNITS / name)
    own = CUSTODIAN if name == "appliance.service" else CHILDREN
    assert {key: found.get(key) for key in EVERYWHERE | own} == {
        key: [value] for key, value in (EVERYWHERE | own).items()
    }
    allowed, refused, *more = found["SystemCallFilter"]
    assert set(allowed.split()) >= ALWAYS, "not in @system-service"
    assert set(refused.removeprefix("~").split()) >= NEVER, "in @system-service"
    assert more == (["capset"] if name == "appliance.service" else [])
    assert found.get("DeviceAllow", []) == (NVIDIA if "gpu" in name else [])


def test_the_gpu_s_nodes_come_by_a_drop_in_and_nothing_else_does():
    found = settings(UNITS / "appliance.service.d" / "gpu.conf")
    assert found == {"PrivateDevices": ["no"], "DevicePolicy": ["closed"], "DeviceAllow": NVIDIA}


@pytest.mark.parametrize("name", MOST)
def test_a_unit_starts_the_release_that_install_sh_made_current(name):
    (command,) = settings(UNITS / name)["ExecStart"]
    script = SCRIPT.read_text()
    (prefix,) = re.findall(r"^prefix=(\S+)$", script, re.MULTILINE)
    assert command.startswith(f"{prefix}/current/env/bin/python -I -m appliance.")
    assert 'venv --without-pip "$release/env"' in script, "where the environment lies in a release"


def test_one_socket_closed_to_others():
    found = settings(UNITS / "appliance.socket")
    assert found["ListenStream"] == ["/var/lib/appliance/run/appliance.sock"]
    assert (found["SocketMode"], found["DirectoryMode"]) == (["0660"], ["0750"])


def test_accounts_are_those_that_the_jail_looks_for():
    from appliance.privileges import ACCOUNTS  # noqa: PLC0415  what the units are compared with

    made = re.findall(r"^u (\S+)", (UNITS / "sysusers.conf").read_text(), re.MULTILINE)
    assert set(made) == {"appliance", *ACCOUNTS.values()}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", MOST)
def test_systemd_finds_little_exposed(name, tmp_path):
    copy = tmp_path / name
    shutil.copy(UNITS / name, copy)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= MOST[name]
