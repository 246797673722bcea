"""Versions of a release as they are compared: three whole numbers, nothing else, and a floor that only rises.

Guarantees officers that a release older than the floor which they named does not start on this appliance
again, whoever puts it back: an old release is signed as well as a new one, and has every hole mended since.
KNOWN: the old release itself looks, so this holds for those that know the floor, from 0.1.0 on.
"""

from __future__ import annotations

import re

from appliance.errors import SetBack, UsageError

LOWEST = "0.0.0"
_VERSION = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})")


def parse_version(text: str) -> tuple[int, int, int]:
    """Return the three numbers; raises UsageError for anything else."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise UsageError(f"expected a version as in 0.1.0, found {text[:40]!r}")
    return int(found[1]), int(found[2]), int(found[3])


def check_floor(wanted: str, floor: str, running: str) -> None:
    """Refuse a floor that is no higher than the one in force, or that would lock this very release out.

    Raises UsageError.
    """
    if parse_version(wanted) <= parse_version(floor):
        raise UsageError(
            f"expected a version above the floor in force, {floor}, found {wanted}: it only rises"
        )
    if parse_version(wanted) > parse_version(running):
        raise UsageError(
            f"expected a version up to the one that runs, {running}, found {wanted}: install that "
            "release and start it first"
        )


def demand_release(running: str, floor: str) -> None:
    """Refuse to start a release below the floor; raises SetBack."""
    if parse_version(running) < parse_version(floor):
        raise SetBack(
            f"this release is {running}, and officers said that none below {floor} starts here again: "
            f"install {floor} or a newer one, or `appliance rollback` if that is the one before"
        )
