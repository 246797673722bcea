"""The TPM's counter against the log: a home that was set back as a whole is noticed at its next start.

Guarantee, with `tpm:` custody: the counter is raised at each start and for each bundle in or out, and the log
names each value before the TPM holds it. So the log's last value is never below the counter's, and a home
whose log says less was set back: RolledBack, and nothing starts. One more in the log than in the TPM is a
crash between the two, and is made good. While the TPM does not answer, only the recovery identity unseals.

Without a TPM nobody on this host can notice: then witnesses and heads that others keep have to.

KNOWN: a log begun anew by a restore takes the counter as it finds it, once, since the home it comes from is
older by design.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from appliance.custody.counter import Counter, raise_counter, read_counter
from appliance.custody.lock import Lock
from appliance.custody.tpm import TpmSeal
from appliance.errors import DeviceMissing, PlatformChanged, SetBack
from audit.entry import JSON, Entry


class RolledBack(SetBack):
    """The home is older than this machine's TPM counter says: it was set back as a whole."""


class Counting:
    """What the log last said of the counter, and the comparison with the TPM.

    `lock` tells the custody in force at each use, `tell` appends an entry of kind COUNTER_RAISED, `continued`
    says whether this log goes on from another one.
    """

    def __init__(
        self,
        lock: Callable[[], Lock],
        tell: Callable[[Mapping[str, JSON]], object],
        last: Entry | None,
        *,
        continued: bool,
    ) -> None:
        self._lock = lock
        self._tell = tell
        said: Mapping[str, Any] = last.context if last is not None else {}
        self._told: dict[int, int] = {said["index"]: said["value"]} if said else {}
        self._continued = continued
        self.problem = ""
        """Why the counter could not be compared, "" where it was, or where there is none."""

    def start(self) -> None:
        """Compare and raise, at a start. Raises RolledBack; a TPM that is not there is kept as `problem`."""
        try:
            self.raise_for("start")
        except (DeviceMissing, PlatformChanged) as absent:
            self.problem = str(absent)

    def demand_compared(self, *, by_recovery: bool) -> None:
        """Compare before an unsealing where the start could not; raises what keeps it from being compared.

        The recovery identity is for the day when the TPM is gone: it needs no counter, and the log says so.
        """
        if self.problem and not by_recovery:
            self.raise_for("unseal")
            self.problem = ""

    def raise_for(self, why: str) -> None:
        """Raise the counter by one, the log first; without `tpm:` custody nothing happens.

        Raises RolledBack, DeviceMissing, PlatformChanged.
        """
        lock = self._lock()
        if not isinstance(lock, TpmSeal):
            return
        counter, tcti = lock.counter, lock.where.tcti
        found = read_counter(tcti, counter)
        told = self._expected(counter, found)
        _compare(found, told)
        if found == told:
            told += 1
            self._tell({"index": counter.index, "value": told, "why": why})
            self._told[counter.index] = told
        raise_counter(tcti, counter)

    def _expected(self, counter: Counter, found: int) -> int:
        if counter.index in self._told:
            return self._told[counter.index]
        return found if self._continued else counter.initial


def _compare(found: int, told: int) -> None:
    if found > told:
        raise RolledBack(
            f"this home was set back: the TPM's counter stands at {found}, its log ends at {told}, so "
            f"{found - told} starts or bundles are missing. Bring the newest home back; where it is lost, "
            "`appliance restore-log` makes a new log that says so"
        )
    if found < told - 1:
        raise PlatformChanged(
            f"TPM: expected its counter at {told}, found {found}: another TPM, or one that was made anew"
        )
