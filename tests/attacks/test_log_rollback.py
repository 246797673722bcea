"""The log set back to an older state: a file, its folder, the whole home; and what it takes to see that.

A log cannot show by itself that all of its folder was set back to an earlier, sound state: that state was
true once. The tests here say who sees it (the catalog beside it, a receipt, a head that left, a witness),
and name the one case that nobody sees.
"""

from __future__ import annotations

import shutil

import pytest

from appliance.errors import SetBack
from appliance.gate import Thing
from audit.__main__ import main
from audit.checkpoint import TreeHead
from audit.errors import CouldNotCheck, Invalid, NotLatest, OldBeyondNew
from audit.folder import Folder
from audit.merkle import consistency_proof
from audit.note import VerifierKey, parse_note
from audit.prove import prove
from audit.receipt import parse_receipt
from audit.verify import verify_log
from audit.witness import Challenge, verify_challenge


class Backups:
    """A copy of a stopped home, put back whole or piece by piece."""

    def __init__(self, sim):
        self.sim = sim
        self.old = sim.folder / "old"

    def make(self):
        self.sim.stop()
        shutil.copytree(self.sim.home.root, self.old)
        self.sim.start()
        self.sim.unseal()

    def put_back(self, piece="."):
        """Stop, and put back a file or folder of the home as it was."""
        if self.sim.running:
            self.sim.stop()
        self.sim.clock.pass_(3600)
        now, old = self.sim.home.root / piece, self.old / piece
        if old.is_dir():
            shutil.rmtree(now)
            shutil.copytree(old, now)
        else:
            shutil.copy2(old, now)


@pytest.fixture
def backups(sim):
    return Backups(sim)


def decide(sim, count=5):
    for _ in range(count):
        sim.ask("status", Thing(sim.core.appliance()))


def key(sim):
    return VerifierKey.parse(sim.init.log_vkey)


def newest_receipt(sim):
    """What a person took away earlier: the receipt of the newest entry, checked with public keys alone."""
    log = sim.core.log
    with_head = sim.folder / "taken.tlog-proof"
    with_head.write_bytes(log.receipt(log.size - 1))
    with_head.with_suffix(".entry").write_bytes(log.entry(log.size - 1))
    (sim.folder / "log.vkey").write_text(sim.init.log_vkey)
    return with_head


def auditor(sim, *receipts):
    """The exit status of the auditor's program."""
    arguments = ["verify", str(sim.home.log), "--vkey", str(sim.folder / "log.vkey")]
    return main([*arguments, *(["--receipt", *map(str, receipts)] if receipts else [])])


# ---- pieces of the folder --------------------------------------------------------------------------


def test_a_write_ahead_file_set_back_is_noticed_at_the_next_start(sim, backups):
    backups.make()
    decide(sim)
    backups.put_back("log/wal")
    sim.refuses_to_start(Invalid, "but a signed head says .* or a part of the folder was set back")


def test_a_head_set_back_alone_is_noticed_by_the_auditor_and_mended_at_the_next_start(sim, backups):
    backups.make()
    decide(sim)
    size = sim.core.log.size
    backups.put_back("log/checkpoint")
    with pytest.raises(Invalid, match=r"unexpected file beyond the .* signed entries: the log was set back"):
        sim.verify_log()
    sim.start()
    assert sim.verify_log() == size


def test_tiles_set_back_alone_are_noticed_by_the_auditor_and_mended_at_the_next_start(sim, backups):
    backups.make()
    decide(sim)
    backups.put_back("log/tile")
    with pytest.raises(CouldNotCheck, match="expected a file, found none"):
        sim.verify_log()
    sim.start()
    assert sim.verify_log() > 0


def test_everything_public_set_back_alone_is_mended_at_the_next_start(sim, backups):
    """Tiles and head of an earlier time are a sound log to the auditor; the write-ahead file knows better."""
    backups.make()
    decide(sim)
    size = sim.core.log.size
    taken = newest_receipt(sim)
    backups.put_back("log/tile")
    backups.put_back("log/checkpoint")
    assert sim.verify_log() < size
    assert auditor(sim, taken) == 6
    sim.start()
    assert sim.verify_log() == size
    assert auditor(sim, taken) == 0


# ---- the whole folder, beside what was not set back ------------------------------------------------


def test_a_log_folder_set_back_beside_a_newer_catalog_is_missed_at_the_start(sim, backups):
    backups.make()
    sim.add("weights", "tiny", b"the weights")
    backups.put_back("log")
    sim.refuses_to_start(SetBack, "is older than catalog.db")


def test_a_log_folder_set_back_is_seen_by_whoever_has_a_newer_receipt(sim, backups, capsys):
    backups.make()
    decide(sim)
    taken = newest_receipt(sim)
    backups.put_back("log")
    assert auditor(sim, taken) == 6
    assert "the log was set back" in capsys.readouterr().err


def test_a_log_set_back_and_written_on_is_two_histories_to_whoever_has_a_receipt(sim, backups, capsys):
    backups.make()
    decide(sim)
    taken = newest_receipt(sim)
    backups.put_back()
    sim.start()
    sim.unseal()
    decide(sim, 20)
    sim.stop()
    assert auditor(sim, taken) == 6
    assert "two histories under one key, keep both as evidence" in capsys.readouterr().err


def test_the_heads_of_both_histories_are_evidence_that_the_key_signed_both(sim, backups):
    backups.make()
    decide(sim)
    taken = parse_receipt(newest_receipt(sim).read_bytes()).note
    size = sim.core.log.size
    backups.put_back()
    sim.start()
    sim.unseal()
    while sim.core.log.size < size:
        decide(sim, 1)
    other = sim.core.log.tree_head()
    assert taken.split(b"\n")[:2] == other.split(b"\n")[:2]  # one log, one size
    assert taken.split(b"\n")[2] != other.split(b"\n")[2]  # and two roots


def test_a_witness_cosigns_nothing_of_a_log_set_back_nor_of_what_it_becomes(sim, backups):
    """Shorter, as long, or longer again: no proof leads from the head it cosigned to that history."""
    backups.make()
    decide(sim)
    latest = TreeHead.parse(parse_note(sim.core.log.tree_head())[0])

    def show(old, grown):
        head = sim.core.log.tree_head()
        proof = consistency_proof(old, sim.core.log.size, sim.core.log._store.subtree) if grown else []
        verify_challenge(Challenge(old, tuple(proof), head), [key(sim)], latest)

    show(latest.size, grown=True)
    backups.put_back()
    sim.start()
    sim.unseal()
    with pytest.raises(OldBeyondNew, match="expected an old size of at most"):
        show(latest.size, grown=False)
    with pytest.raises(NotLatest, match=f"mine is {latest.size}"):
        show(sim.core.log.size, grown=True)
    while sim.core.log.size < latest.size:
        decide(sim, 1)
    for _ in range(2):
        with pytest.raises(Invalid, match="consistency proof"):
            show(latest.size, grown=True)
        decide(sim)


# ---- the whole home --------------------------------------------------------------------------------


def test_a_home_set_back_whole_is_not_seen_without_witness_counter_or_receipt(sim, backups):
    """The hole that a log alone cannot close: SECURITY.md and docs/formats/audit-log.md say so."""
    newest_receipt(sim)  # for its key file; from before the backup, so it shows nothing
    early = sim.folder / "taken.tlog-proof"
    backups.make()
    assert sim.read(sim.add("weights", "tiny", b"the weights")) == b"the weights"
    backups.put_back()
    sim.start()
    sim.unseal()
    decide(sim)
    assert sim.core.catalog.list() == ()
    sim.stop()
    assert auditor(sim) == 0
    assert auditor(sim, early) == 0
    assert b"the weights" not in b"".join(
        path.read_bytes() for path in sim.home.log.rglob("*") if path.is_file()
    )
    report = verify_log(sim.home.log, key(sim))
    assert "object-created" not in report.kinds, "the reading left no trace"


def test_a_home_set_back_whole_is_seen_by_one_newer_receipt(sim, backups, capsys):
    backups.make()
    sim.read(sim.add("weights", "tiny", b"the weights"))
    taken = newest_receipt(sim)
    backups.put_back()
    assert auditor(sim) == 0
    assert auditor(sim, taken) == 6
    assert "the log was set back" in capsys.readouterr().err


def test_a_receipt_made_later_from_the_folder_alone_shows_a_rollback_as_well(sim, backups):
    """An auditor who copied the folder once holds every head that matters."""
    backups.make()
    decide(sim)
    sim.stop()
    with Folder(sim.home.log) as folder:
        receipt, entry, _ = prove(folder, 3, key(sim))
    (sim.folder / "kept.tlog-proof").write_bytes(receipt)
    (sim.folder / "kept.entry").write_bytes(entry)
    (sim.folder / "log.vkey").write_text(sim.init.log_vkey)
    assert auditor(sim, sim.folder / "kept.tlog-proof") == 0
    backups.put_back()
    assert auditor(sim, sim.folder / "kept.tlog-proof") == 6
