"""A log that was changed: the auditor says so, and the appliance does not start, or denies."""

from __future__ import annotations

import shutil

import pytest

import audit.log
from appliance import __version__
from appliance.errors import IntegrityError, SetBack
from appliance.gate import NamedObject
from appliance.inventory import STARTED
from appliance.ledger import RELEASE
from audit.errors import BadSignature, CouldNotCheck, Invalid, Malformed


@pytest.fixture
def stopped(sim):
    """An appliance with three objects, stopped in good order."""
    for number in range(3):
        sim.add("weights", f"w{number}", f"weights {number}".encode())
    sim.stop()
    assert sim.verify_log() == 7
    return sim


def test_a_flipped_byte_of_an_entry(stopped):
    with stopped.undone():
        stopped.flip_byte_of_an_entry('"name":"w1"')
        stopped.refuses_to_start(
            Invalid, "found damage, though a tree head for 4 entries was signed after it; restore a copy"
        )


def test_a_flipped_byte_anywhere_in_the_write_ahead_file(stopped):
    newest_head = stopped._frames()[-1].begin
    for offset in range(0, newest_head, newest_head // 40):
        stopped.flip_byte(stopped.wal, offset)
        stopped.refuses_to_start((Invalid, Malformed, BadSignature), "write-ahead file")
        stopped.flip_byte(stopped.wal, offset)
    stopped.start()
    assert len(stopped.entries()) == 7


def test_a_damaged_newest_head_is_signed_again_over_the_same_entries(stopped):
    entries = stopped.wal.read_bytes()[: stopped._frames()[-1].begin]
    stopped.flip_byte(stopped.wal, len(entries) + 30)
    stopped.start()
    assert len(stopped.entries()) == 7
    stopped.stop()
    assert stopped.verify_log() == 7


def test_a_flipped_byte_of_the_checkpoint(stopped):
    with stopped.undone():
        stopped.flip_byte(stopped.checkpoint, stopped.checkpoint.read_bytes().index(b"\n7\n") + 1)
        stopped.refuses_to_start(BadSignature, "signature")
        with pytest.raises(BadSignature):
            stopped.verify_log()


@pytest.mark.parametrize("level", ["entries", "0"])
def test_a_flipped_byte_of_a_tile_is_seen_by_the_auditor_and_healed_at_the_next_start(stopped, level):
    stopped.flip_byte(stopped.newest(level), 20)
    with pytest.raises((Invalid, Malformed)):
        stopped.verify_log()
    stopped.start()
    entries = len(stopped.entries())
    stopped.stop()
    assert stopped.verify_log() == entries == 7


def test_a_removed_tail(stopped):
    with stopped.undone():
        stopped.remove_tail()
        stopped.refuses_to_start(
            Invalid, "holds entries 0 to 6, but a signed head says 7: its end was cut off, or a part"
        )


def test_a_removed_tail_with_its_checkpoint_is_missed_by_the_catalog(stopped, tmp_path):
    """An older state of the log, whole and signed: no check of the log alone can see it."""
    stopped.start()
    old = tmp_path / "old"
    shutil.copytree(stopped.home.log, old)
    stopped.unseal()
    stopped.add("weights", "newer", b"newer")
    stopped.stop()
    shutil.rmtree(stopped.home.log)
    old.rename(stopped.home.log)
    assert stopped.verify_log() == 7
    stopped.refuses_to_start(SetBack, "is older than catalog.db: expected at least the 9 entries")


def test_swapped_entries(stopped):
    with stopped.undone():
        stopped.swap_entries()
        stopped.refuses_to_start(Invalid, "over 6 entries, as signed, found .*write-ahead file were changed")


def test_a_log_without_its_write_ahead_file(stopped):
    with stopped.undone():
        stopped.wal.unlink()
        stopped.refuses_to_start(CouldNotCheck, "expected a log's write-ahead file, found none")


def test_another_log_of_the_same_name_under_the_same_key(stopped):
    """Whoever copied the log key can write a log of their own; the catalog remembers the one of before."""
    stopped.rewrite_genesis()
    stopped.refuses_to_start(SetBack, "is older than catalog.db: expected at least the 7 entries")


def test_a_flipped_byte_in_an_old_tile_denies_what_its_entry_made(sim, monkeypatch):
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 4096)
    made = sim.add("weights", "tiny", b"weights")
    while sim.core.log.size < 300:
        sim.core.gate.outcome("note", "Custodian:custodian", "note", "Appliance:x", {})
    sim.add("config", "later", b"what a start compares stands in this entry, not in the damaged one")
    sim.core.gate.outcome(
        STARTED, "Custodian:custodian", "start", "Appliance:x", {RELEASE: __version__}
    )  # as the daemon does at each start: which releases may start is known after the damage, too
    sim.restart()
    assert sim.read(made) == b"weights"
    created = sim.core.log.entry(made.log_index)
    sim.stop()
    bundle = sim.home.log / "tile/entries/000"
    sim.flip_byte(bundle, bundle.read_bytes().index(created) + created.index(b'"name":"tiny"') + 8)
    sim.start()
    sim.unseal()
    with sim.refused(IntegrityError, "may not use weights tiny: catalog-names-no-entry", ["deny use"]):
        sim.use(made)
    with sim.refused(IntegrityError, "catalog-names-no-entry", ["deny train"]):
        sim.ask("train", NamedObject("weights", "tiny"))
    sim.stop()
    with pytest.raises(Invalid):
        sim.verify_log()
