"""All checks of a host, read from a tree that is a parameter, so that the failing cases can be shown.

Guarantee: a check that fails for whatever reason, or does not answer in time, is UNKNOWN, never OK and never
a hang.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from appliance.isolation import boot, hardware, memory, network
from appliance.isolation.check import Check, Severity, Status
from appliance.isolation.sysctls import SETTINGS, check_of

DEADLINE_S = 5.0
PATIENCE_S = 0.05  # Tuning: a sound check takes a millisecond

# What decides whether the host is isolated: the watch looks at these each second.
DECISIVE: tuple[Callable[[Path], Check], ...] = (
    network.interfaces,
    network.namespaces,
    network.file_systems,
    hardware.adapters,
    hardware.virtio,
    hardware.radios,
    memory.swap,
    memory.core_pattern,
    memory.suid_dumpable,
)
TOLD: tuple[Callable[[Path], Check], ...] = (
    memory.ptrace_scope,
    hardware.usb,
    hardware.management,
    boot.lockdown,
    boot.secure_boot,
    boot.init_on_free,
    boot.clock_daemons,
    *map(check_of, SETTINGS),
)


def checks(sysroot: Path = Path("/")) -> tuple[Check, ...]:
    """Read what decides from the tree at `sysroot`; waits as long as the tree makes it wait."""
    return tuple(_ask(check, sysroot) for check in DECISIVE)


def examine(sysroot: Path = Path("/"), deadline_s: float = DEADLINE_S) -> tuple[Check, ...]:
    """Read everything, each check by itself; one that does not answer within the deadline is UNKNOWN."""
    asked = (*DECISIVE, *TOLD)
    answers: dict[int, Check] = {}

    def ask(number: int, check: Callable[[Path], Check]) -> None:
        answers[number] = _ask(check, sysroot)

    until = time.monotonic() + deadline_s
    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in enumerate(asked)]
    for thread in threads:  # one after the other, but none waits long for one before it
        thread.start()
        thread.join(min(PATIENCE_S, deadline_s))
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = f"no answer within {deadline_s:g} s"
    return tuple(answers.get(number) or _unknown(check, late) for number, check in enumerate(asked))


def _ask(check: Callable[[Path], Check], sysroot: Path) -> Check:
    try:
        return check(sysroot)
    except Exception as fault:  # noqa: BLE001  whatever a tree makes a check fail with, it is no evidence
        return _unknown(check, f"the check failed: {type(fault).__name__}: {fault}")


def _unknown(check: Callable[[Path], Check], found: str) -> Check:
    return Check(
        id=f"{check.__module__.rpartition('.')[2]}.{check.__name__}",
        title=f"The check {check.__name__}",
        severity=Severity.REQUIRED if check in DECISIVE else Severity.ADVISED,
        expected="an answer",
        found=found,
        status=Status.UNKNOWN,
        evidence="/",
        mend="find out what keeps /proc or /sys from being read",
        reference="",
    )
