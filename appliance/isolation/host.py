"""All checks of a host, read from a tree that is a parameter, so that the failing cases can be shown."""

from __future__ import annotations

from pathlib import Path

from appliance.isolation import memory, network
from appliance.isolation.check import Check

CHECKS = (
    network.interfaces,
    network.namespaces,
    network.file_systems,
    memory.swap,
    memory.core_pattern,
    memory.suid_dumpable,
    memory.ptrace_scope,
)


def checks(sysroot: Path = Path("/")) -> tuple[Check, ...]:
    """Read all checks from the tree at `sysroot`."""
    return tuple(check(sysroot) for check in CHECKS)
