"""Last words of the log: no edit of the catalog, and no damage, has the appliance forget one of them."""

from __future__ import annotations

from unittest.mock import patch

import pytest

import audit.log
from appliance import __version__
from appliance.custodian import start
from appliance.errors import IntegrityError, SetBack
from appliance.inventory import STARTED
from appliance.ledger import BREACH, COUNTER_RAISED, RELEASE, RELEASE_FLOOR, UNSEALED
from audit.entry import Record

NAMES = ("recall_seen", "recall_last_breach", "recall_last_custody", "recall_last_counter")


def tell(sim, kind, **context):
    """Append an entry of the custodian's own."""
    return sim.core.gate.outcome(kind, "Custodian:custodian", "start", "Appliance:x", context)


def damage(sim, text):
    """Flip one bit of the entry that holds a text, wherever a stopped log still has it."""
    found = 0
    for path in sorted(sim.home.log.glob("tile/entries/**/*")):
        at = path.read_bytes().find(text) if path.is_file() else -1
        if at >= 0:
            sim.flip_byte(path, at + 1)
            found += 1
    assert found


def fill_a_bundle(sim):
    """Have the entries so far leave the write-ahead file, else read in place of a bundle."""
    for begin in range(0, 1024, 256):
        numbers = range(begin, begin + 256)
        sim.core.log.append(
            [Record("note", "Custodian:custodian", "start", "Appliance:x", {"number": n}) for n in numbers]
        )
    with patch.object(audit.log, "ROTATE_BYTES", 1 << 14):
        sim.core.log.publish()
    sim.add("config", "tiny", b"[model]")


@pytest.mark.parametrize("value", ["0", "1", "999999", None])
def test_a_breach_is_not_forgotten_for_an_edited_catalog(sim, value):
    tell(sim, BREACH, found=["eth0"])
    breach = len(sim.entries()) - 1
    sim.stop()
    for name in NAMES:
        sim.edit_catalog("DELETE FROM meta WHERE key = ?", name)
        if value is not None:
            sim.edit_catalog("INSERT INTO meta (key, value) VALUES (?, ?)", name, value)
    sim.start()
    assert sim.core.breach == breach
    tell(sim, UNSEALED)
    sim.stop()
    sim.start()
    assert sim.core.breach is None


def test_custody_and_counter_are_the_newest_that_the_log_names(sim, monkeypatch):
    counted = []
    monkeypatch.setattr(
        type(sim.core), "count_from", lambda _, last, **_given: counted.append(last.context["value"])
    )
    standing = sim.core.standing
    for value in (3, 4):
        tell(sim, COUNTER_RAISED, index=1, value=value, why="start")
    tell(sim, "custody-changed", generation=0, custody_record=standing.record, note="newest")
    sim.stop()
    for name in NAMES:
        sim.edit_catalog("INSERT OR REPLACE INTO meta (key, value) VALUES (?, '1')", name)
    sim.start()
    assert counted == [4]
    assert sim.core.standing == standing
    sim.stop()


def test_an_older_custody_is_not_in_force_again(sim):
    tell(sim, "custody-changed", generation=7, custody_record="0" * 64)
    sim.stop()
    sim.edit_catalog("INSERT OR REPLACE INTO meta (key, value) VALUES ('recall_last_custody', '0')")
    sim.edit_catalog("INSERT OR REPLACE INTO meta (key, value) VALUES ('recall_seen', '99')")
    with pytest.raises(Exception, match="vault-7"):
        sim.start()


@pytest.mark.parametrize("hit", [b'"kind":"release-floor"', b'"number":7}'])
def test_an_old_release_starts_on_no_damaged_log_either(sim, monkeypatch, hit):
    tell(sim, RELEASE_FLOOR, floor=__version__, before="0.0.0", request="0" * 64)
    fill_a_bundle(sim)
    tell(sim, STARTED, **{RELEASE: __version__})
    sim.add("config", "last", b"[model]")
    sim.stop()
    damage(sim, hit)
    monkeypatch.setattr(start, "__version__", "0.0.9")
    with pytest.raises(
        SetBack, match=f"this release is 0.0.9, and officers said that none below {__version__}"
    ):
        sim.start()
    monkeypatch.setattr(start, "__version__", __version__)
    sim.start()
    assert sim.core.ledger.damage
    assert sim.core.breach == sim.core.ledger.last_unreadable, "it may have been one"


def test_damage_after_which_no_release_is_named_starts_nothing(sim):
    tell(sim, STARTED, **{RELEASE: __version__})
    fill_a_bundle(sim)
    sim.stop()
    damage(sim, b'"number":7}')
    with pytest.raises(IntegrityError, match=r"which releases may start is not known.*appliance restore-log"):
        sim.start()


def test_a_floor_behind_the_damage_is_the_highest(sim, monkeypatch):
    fill_a_bundle(sim)
    tell(sim, RELEASE_FLOOR, floor="0.2.0", before="0.0.0", request="0" * 64)
    sim.add("config", "last", b"[model]")
    sim.stop()
    damage(sim, b'"number":7}')
    with pytest.raises(SetBack, match=r"none below 0\.2\.0"):
        sim.start()
    monkeypatch.setattr(start, "__version__", "0.2.0")
    sim.start()
