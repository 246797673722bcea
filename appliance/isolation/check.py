"""One fact about the host: what was expected, what was found, where, and how to mend it.

Guarantees, to the custodian and to `doctor`: what could not be read is UNKNOWN, and UNKNOWN is not isolated;
only evidence counts. NA is for a danger that the kernel was built without.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_MAX_READ = 256 * 1024


class Status(StrEnum):
    """The outcome of a check."""

    OK = "OK"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"
    NA = "NA"


class Severity(StrEnum):
    """REQUIRED checks decide whether a host is isolated; ADVISED ones are told."""

    REQUIRED = "required"
    ADVISED = "advised"


@dataclass(frozen=True, slots=True)
class Check:
    """One fact: `evidence` is the path it was read from, `reference` a public guide's id for it, or ""."""

    id: str
    title: str
    severity: Severity
    expected: str
    found: str
    status: Status
    evidence: str
    mend: str
    reference: str

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong, as far as was seen."""
        return self.status in (Status.OK, Status.NA)


def failures(found: tuple[Check, ...]) -> tuple[Check, ...]:
    """Return the required checks that are not known to hold."""
    return tuple(check for check in found if check.severity is Severity.REQUIRED and not check.holds)


def isolated(found: tuple[Check, ...]) -> bool:
    """Whether every required check is known to hold; none at all is no evidence."""
    return any(check.severity is Severity.REQUIRED for check in found) and not failures(found)


def judge(value: str | None, *, good: bool) -> Status:
    """Return the status of a value that was read, UNKNOWN of one that was not."""
    if value is None:
        return Status.UNKNOWN
    return Status.OK if good else Status.FAIL


def shown(value: str | None, path: Path) -> str:
    """Return a value as `found` tells it."""
    return f"{path} cannot be read" if value is None else repr(value.strip())


def read(path: Path) -> str | None:
    """Return a small file's text; None where it cannot be read, or is larger than any such file is."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_READ + 1)
    except OSError:
        return None
    return data.decode("utf-8", errors="replace") if len(data) <= _MAX_READ else None


def folder_names(path: Path) -> set[str] | None:
    """Return the names of folders (and links to them) in a folder; None where it cannot be read."""
    try:
        return {entry.name for entry in path.iterdir() if entry.is_symlink() or entry.is_dir()}
    except OSError:
        return None
