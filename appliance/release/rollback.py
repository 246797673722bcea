"""Which release runs: two links that are switched by rename, so that there is always a whole one.

    PREFIX/current   -> releases/<name>    what is started
    PREFIX/previous  -> releases/<name>    what was started before; `roll_back` exchanges the two

Guarantees the operator: the release gone back to is compared with its list first, and a process killed at any
moment leaves `current` on one of the two.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from appliance.errors import Incomplete, IntegrityError, UnknownObject
from appliance.release.installed import verify_release

CURRENT, PREVIOUS = "current", "previous"

_TARGET = re.compile(r"releases/([A-Za-z0-9][A-Za-z0-9.+-]*-[0-9a-f]{12})")


def release_name(prefix: Path, link: str) -> str:
    """Return the release that a link names; raises UnknownObject without one, IntegrityError for another."""
    try:
        target = str((prefix / link).readlink())
    except OSError as error:
        raise UnknownObject(
            f"{prefix / link}: expected a link to a release, found none: nothing was installed there before"
        ) from error
    named = _TARGET.fullmatch(target)
    if named is None:
        raise IntegrityError(f"{prefix / link}: expected a link to releases/<name>, found one to {target}")
    return named[1]


def roll_back(prefix: Path) -> tuple[str, str]:
    """Exchange current and previous release; return their names, the one left first."""
    left, back = release_name(prefix, CURRENT), release_name(prefix, PREVIOUS)
    if not (prefix / "releases" / back).is_dir():
        raise Incomplete(
            f"{prefix}/releases/{back}: expected the release before, found none: install it again"
        )
    verify_release(prefix / "releases" / back)
    _point(prefix, CURRENT, back)
    _point(prefix, PREVIOUS, left)
    return left, back


def _point(prefix: Path, link: str, name: str) -> None:
    fresh = prefix / f".{link}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(f"releases/{name}")
    fresh.rename(prefix / link)
    folder = os.open(prefix, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
