"""A catalog made anew from the log, where catalog.db is damaged, lost, edited or older than the log.

Guarantees that what the log tells of is in it: every object with its parents, every tombstone, which bundles
came in and how many went out. What only a catalog knows (jobs and how far they got, requests and signatures)
is taken from the one of before as far as it can be read and fits; each is compared with the log again when it
is used. The one of before is kept beside the new one. Works offline; the next start adds what was not yet
published of the log, and logs that the catalog was rebuilt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.catalog import Catalog
from appliance.catalog.entries import UNFILLED, USED, repeat
from appliance.errors import ApplianceError
from appliance.home import Home, undisturbed
from appliance.restore import read_home
from audit.entry import Entry

BEFORE = "before"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What the new catalog holds, and where the one of before is (None: there was none)."""

    objects: int
    carried: int
    lost: int
    before: Path | None


def rebuild_catalog(home: Home) -> Rebuilt:
    """Make catalog.db anew; the old one stays until the new one is complete.

    Raises Busy where a daemon runs, IntegrityError, SpaceExhausted, and what verifying the log raises.
    """
    with undisturbed(home):
        scratch = home.catalog.with_suffix(".new")
        _remove(scratch)
        try:
            catalog = Catalog(scratch)
            try:
                with catalog.transaction():
                    used: list[Entry] = []
                    read_home(home, lambda entry: _take(catalog, entry, used))
                    carried, lost = _carry(home.catalog, catalog)
                    for entry in used:  # a request that was used must not come back open
                        repeat(catalog, entry)
                    catalog.set_meta(UNFILLED, "rebuild")
                objects = len(catalog.list())
            finally:
                catalog.close()
            before = _set_aside(home.catalog)
            scratch.rename(home.catalog)
        except BaseException:
            _remove(scratch)
            raise
    return Rebuilt(objects, carried, lost, before)


def _take(catalog: Catalog, entry: Entry, used: list[Entry]) -> None:
    repeat(catalog, entry)
    if entry.kind == USED:
        used.append(entry)


def _carry(path: Path, catalog: Catalog) -> tuple[int, int]:
    """Take over what only the old catalog knows; returns the rows carried, and those that were not."""
    if not path.exists():
        return 0, 0
    try:
        old = Catalog(path)
    except ApplianceError:  # damaged, or not a catalog at all
        return 0, 0
    try:
        return catalog.carry(old)
    finally:
        old.close()


def _set_aside(path: Path) -> Path | None:
    """Give a catalog a second name, and move what SQLite keeps beside it; never over an earlier one."""
    if not path.exists():
        return None
    number = 1
    while (aside := path.with_name(f"{path.name}.{BEFORE}-{number}")).exists():
        number += 1
    for suffix in (
        "-wal",
        "-shm",
    ):  # left where the catalog is damaged; another database's would damage the new
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    aside.hardlink_to(path)
    return aside


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
