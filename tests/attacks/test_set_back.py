"""One part of a home put back to an earlier state, or a catalog made to lie: noticed at start, and named."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from appliance.errors import Busy, IntegrityError, SetBack
from appliance.gate import NamedObject
from appliance.rebuild import rebuild_catalog


@pytest.fixture
def three(sim):
    config = sim.add("config", "tiny", b"[model]")
    return config, sim.add("weights", "tiny", b"one", [config]), sim.add("weights", "tiny", b"two", [config])


def rebuilt(sim):
    """What the refusal says to do, and what comes of it."""
    made = rebuild_catalog(sim.home)
    sim.start()
    sim.unseal()
    return made


def test_the_newest_version_that_is_deleted_does_not_make_the_one_before_it_the_newest(sim, three):
    sim.edit_catalog("DELETE FROM parents WHERE child = ?", three[2].id)
    sim.edit_catalog("DELETE FROM objects WHERE id = ?", three[2].id)
    with sim.refused(IntegrityError, "catalog-differs-from-log .*rebuild it from the log", ["deny sample"]):
        sim.ask("sample", NamedObject("weights", "tiny"))


def test_the_only_version_that_is_deleted_is_not_unknown(sim, three):
    sim.edit_catalog("DELETE FROM parents")
    sim.edit_catalog("DELETE FROM objects WHERE id = ?", three[0].id)
    with sim.refused(IntegrityError, "catalog-differs-from-log", ["deny train"]):
        sim.ask("train", NamedObject("config", "tiny"))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_row_that_was_deleted_is_missed_at_the_start(sim, three, which):
    sim.stop()
    sim.edit_catalog("DELETE FROM parents WHERE child = ?1 OR parent = ?1", three[which].id)
    sim.edit_catalog("DELETE FROM objects WHERE id = ?", three[which].id)
    sim.refuses_to_start(
        IntegrityError, f"it lacks 1 that the log tells of, first object-created {three[which].id}"
    )
    assert rebuilt(sim).objects == 3
    assert sim.core.catalog.list() == three
    assert sim.read(three[2]) == b"two"


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE objects SET name = 'other' WHERE version = 2",
        "UPDATE objects SET version = 7 WHERE version = 2",
        "UPDATE objects SET log_index = log_index + 100 WHERE kind = 'config'",
    ],
)
def test_a_row_that_was_renamed_or_moved_is_missed_at_the_start(sim, three, edit):
    sim.stop()
    sim.edit_catalog(edit)
    sim.refuses_to_start(IntegrityError, "catalog.db differs from the log: .*`appliance catalog rebuild`")
    rebuilt(sim)
    assert sim.core.catalog.list() == three


def test_a_row_that_was_planted_is_found_at_the_start(sim, three):
    sim.stop()
    sim.edit_catalog(
        "INSERT INTO objects SELECT ?, kind, 'planted', 1, size, sha256, 0, created, '[]', state, job, meta "
        "FROM objects WHERE id = ?",
        *("9" * 64, three[1].id),
    )
    sim.refuses_to_start(IntegrityError, "it has 1 that the log tells nothing of, first object-created 9999")
    rebuilt(sim)
    assert sim.core.catalog.list() == three


def test_a_tombstone_or_a_key_that_was_planted_is_found_at_the_start(sim, three):
    for edit in (
        "INSERT INTO tombstones SELECT id, 99, created FROM objects LIMIT 1",
        "INSERT INTO vault_keys VALUES (99, 'vault-key-rotated', 'age1mallory')",
    ):
        sim.stop()
        sim.edit_catalog(edit)
        sim.refuses_to_start(IntegrityError, "it has 1 that the log tells nothing of, first ")
        rebuilt(sim)


def test_a_catalog_older_than_the_log_is_named_and_rebuilt(sim):
    sim.add("config", "tiny", b"[model]")
    sim.stop()
    old = sim.home.catalog.read_bytes()
    sim.start()
    sim.unseal()
    newer = [sim.add("weights", "newer", bytes([number])) for number in range(2)]
    sim.stop()
    sim.home.catalog.write_bytes(old)
    sim.refuses_to_start(
        SetBack, "catalog.db is older than the log: .*found 2 that it lacks; put its newest copy"
    )
    assert rebuilt(sim).objects == 3
    assert sim.core.catalog.list()[1:] == tuple(newer)
    assert sim.entries()[-1].kind == "catalog-rebuilt"
    assert sim.entries()[-1].context["by"] == "rebuild"
    sim.restart()
    assert [entry.kind for entry in sim.entries()].count("catalog-rebuilt") == 1


def test_a_log_older_than_the_catalog_is_named(sim, three):
    shutil.copytree(sim.home.log, sim.folder / "old-log")
    sim.add("weights", "tiny", b"three")
    sim.stop()
    with sim.undone():
        shutil.rmtree(sim.home.log)
        (sim.folder / "old-log").rename(sim.home.log)
        sim.refuses_to_start(
            SetBack,
            r"log .* is older than catalog.db: expected at least the \d+ entries .* `appliance restore-log`",
        )


def test_a_log_set_back_that_has_grown_again_is_another_history(sim, three):
    """As many entries as the catalog has seen, but not these: the head that it kept says so."""
    sim.stop()
    shutil.copytree(sim.home.log, sim.folder / "old-log")
    shutil.copy2(sim.home.catalog, sim.folder / "old-catalog")
    sim.start()
    sim.ask("status", sim.thing())
    sim.restart()
    sim.stop()
    newest = sim.home.catalog.read_bytes()
    with sim.undone():
        shutil.rmtree(sim.home.log)
        (sim.folder / "old-log").rename(sim.home.log)
        shutil.copy2(sim.folder / "old-catalog", sim.home.catalog)
        sim.clock.pass_(1.0)
        sim.start()
        for _ in range(5):
            sim.ask("status", sim.thing())
        sim.stop()
        sim.home.catalog.write_bytes(newest)
        sim.refuses_to_start(SetBack, "that do not begin with those: tree head: expected root")


def test_a_crash_leaves_one_entry_to_do_again_and_no_alarm(sim, three, monkeypatch):
    monkeypatch.setattr(sim.core.catalog, "add", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sim.add("weights", "tiny", b"three")
    sim.crash()
    sim.start()
    sim.unseal()
    assert sim.core.catalog.find("weights", "tiny").version == 3


def test_a_log_from_before_tallies_were_carried_is_compared_all_the_same(sim, three, monkeypatch):
    """A home of an earlier program has creations without a tally: it is read back to the first entry."""
    monkeypatch.setattr("appliance.custodian.reckoning.tally_in", lambda _: None)
    sim.restart()
    assert sim.core.catalog.list() == three
    sim.stop()
    sim.edit_catalog("UPDATE objects SET name = 'other' WHERE version = 2")
    sim.refuses_to_start(IntegrityError, "catalog.db differs from the log")


def test_a_catalog_locked_by_another_process_keeps_its_object_for_later(sim, three):
    """The entry stands, the row follows as soon as it can; no version is given twice, nothing is lost."""
    with sim.locked_catalog(), pytest.raises(Busy, match=r"catalog .*: expected it free, found it locked"):
        sim.add("weights", "tiny", b"three")
    newest = sim.core.inventory.newest("weights", "tiny")
    assert newest not in {row.id for row in sim.core.catalog.list()}
    with sim.locked_catalog(), pytest.raises(Busy):
        sim.ask("sample", NamedObject("weights", "tiny"))
    fourth = sim.add("weights", "tiny", b"four")
    assert (fourth.version, sim.core.catalog.get(newest).version) == (4, 3)
    sim.restart()
    assert sim.core.orphans == ()
    assert sim.read(replace(fourth)) == b"four"


def test_a_catalog_locked_by_another_process_does_not_start_and_loses_nothing(sim, three):
    sim.stop()
    with sim.locked_catalog():
        sim.refuses_to_start(
            Busy, "catalog .*: expected it free, found it locked by another process; end that"
        )
    sim.start()
    assert sim.core.catalog.list() == three
