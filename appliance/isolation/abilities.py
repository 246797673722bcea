"""What this kernel lets the appliance do for its own protection: asked of the kernel, not read."""

from __future__ import annotations

import os
import pwd

from appliance import landlock
from appliance.custody.secret_memory import MEMFD_SECRET, SecretMemory
from appliance.errors import JailError
from appliance.isolation.check import Check, Severity, Status
from appliance.privileges import ACCOUNTS

_ENOUGH_ABI = 1


def abilities() -> tuple[Check, ...]:
    """Ask the running kernel."""
    return (_landlock(), _secret_memory(), _accounts())


def _landlock() -> Check:
    abi = landlock.abi()
    return Check(
        id="jail.landlock",
        title="Processes can give up the file system",
        severity=Severity.ADVISED,  # the jail demands it itself, by profile
        expected="Landlock, ABI 1 or later",
        found=f"ABI {abi}" if abi else "none",
        status=Status.OK if abi >= _ENOUGH_ABI else Status.FAIL,
        evidence="landlock_create_ruleset(2)",
        mend="a kernel of 5.13 or later with landlock in `lsm=` on the boot line",
        reference="",
    )


def _secret_memory() -> Check:
    try:
        memory = SecretMemory(os.sysconf("SC_PAGE_SIZE"))
        kind, status = memory.kind, Status.OK if memory.kind == MEMFD_SECRET else Status.FAIL
        memory.wipe()
    except JailError as refused:
        kind, status = str(refused), Status.FAIL
    return Check(
        id="memory.secret",
        title="Keys lie in memory that not even root reads",
        severity=Severity.ADVISED,
        expected=MEMFD_SECRET,
        found=kind,
        status=status,
        evidence="memfd_secret(2)",
        mend="a kernel of 5.14 or later, with secretmem.enable=1 on the boot line before 6.5",
        reference="",
    )


def _accounts() -> Check:
    lacking = [name for name in ACCOUNTS.values() if not _exists(name)]
    apart = os.geteuid() == 0 and not lacking
    found = f"no account {', '.join(lacking)}" if lacking else "the accounts are there"
    return Check(
        id="jail.accounts",
        title="Front, workers and custodian run as three users",
        severity=Severity.ADVISED,
        expected="started as root, with an account for each",
        found=f"{found}, started as uid {os.geteuid()}",
        status=Status.OK if apart else Status.FAIL,
        evidence="/etc/passwd, geteuid(2)",
        mend="make the accounts appliance-front and appliance-worker, and start the custodian as root",
        reference="",
    )


def _exists(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True
