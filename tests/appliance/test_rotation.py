"""The custodian rotates the log's key: slots on the disk, crashes between the steps, what a start settles."""

from __future__ import annotations

import os

import pytest

from appliance.custodian import rotation
from appliance.custodian.rotation import rotate_log_key
from appliance.custodian.start import open_appliance
from appliance.custody import logkeys
from appliance.custody.logkeys import create_log_key, open_log_keys, retire_log_keys
from appliance.custody.slot import create_slot
from appliance.errors import Incomplete, IntegrityError
from appliance.home import Home
from appliance.initialise import initialise
from audit.checkpoint import verify_tree_head
from audit.epoch import read_chain
from audit.errors import BadSignature, CouldNotCheck
from audit.folder import Folder
from audit.keys import LogKeys
from audit.note import VerifierKey
from audit.receipt import verify_receipt
from audit.verify import verify_log

ORIGIN = "log.example/test"


def slots(sim):
    return sorted(path.name for path in sim.home.keys.glob("log*"))


def files(name):
    return [f"{name}.age", f"{name}.custody.json", f"{name}.identity"]


def rotate(sim):
    return rotate_log_key(sim.core, sim.operator, "yearly")


def stop_at(monkeypatch, where, name):
    def kill(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, name, kill)


def test_the_old_key_is_destroyed_and_the_new_one_signs_after_every_start(sim):
    before = sim.core.log.size
    first = VerifierKey.parse(sim.init.log_vkey)
    done = rotate(sim)
    assert (done.index, sim.entries(before)[0].principal) == (before, "Person:operator")
    assert sim.entries(before)[0].context["reason"] == "yearly"
    assert slots(sim) == files("log-1")
    sim.restart()
    weights = sim.add("weights", "tiny", b"the weights")
    grant = sim.use(weights)
    with pytest.raises(BadSignature):
        verify_receipt(grant.receipt, grant.entry, first)
    with Folder(sim.home.log) as folder:
        keys = read_chain(folder, first).keys
    assert verify_receipt(grant.receipt, grant.entry, keys).index == grant.index
    rotate(sim)
    assert slots(sim) == files("log-2")
    sim.restart()
    sim.stop()
    assert sim.verify_log() > before


def test_a_kill_after_the_slot_and_before_the_entry_leaves_the_old_key(sim, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, sim.core.log, "rotate_key")
        with pytest.raises(KeyboardInterrupt):
            rotate(sim)
    assert slots(sim) == sorted(files("log") + files("log-1"))
    sim.crash()
    sim.start()
    assert slots(sim) == files("log")
    rotate(sim)
    assert slots(sim) == files("log-1")


def test_a_kill_after_the_entry_and_before_its_closing_head_ends_in_the_new_key(sim, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, sim.core.log.epochs, "close")
        with pytest.raises(KeyboardInterrupt):
            rotate(sim)
    sim.crash()
    sim.start()
    assert slots(sim) == files("log-1")
    sim.unseal()
    sim.stop()
    assert sim.verify_log() == 2


def test_a_kill_before_the_old_key_is_destroyed_destroys_it_at_the_next_start(sim, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, rotation, "retire_log_keys")
        with pytest.raises(KeyboardInterrupt):
            rotate(sim)
    assert slots(sim) == sorted(files("log") + files("log-1"))
    sim.crash()
    sim.start()
    assert slots(sim) == files("log-1")


def test_a_slot_that_was_cut_off_half_way_is_made_anew(sim, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            logkeys, "create_slot", lambda keys, name, *_: (keys / f"{name}.age").write_text("half")
        )
        stop_at(patch, sim.core.log, "rotate_key")
        with pytest.raises(KeyboardInterrupt):
            rotate(sim)
    assert slots(sim) == sorted([*files("log"), "log-1.age"])
    rotate(sim)
    assert slots(sim) == files("log-1")


def test_a_start_without_the_newest_key_is_refused_and_destroys_none(sim):
    rotate(sim)
    sim.stop()
    for path in sim.home.keys.glob("log-1.*"):
        path.unlink()
    sim.refuses_to_start(Incomplete, r"expected a file .*log\.custody\.json")
    create_log_key(sim.home.keys, 1, sim.init.origin, "file:", post_quantum=False)
    sim.refuses_to_start(CouldNotCheck, "expected the signing key .* of epoch 1, found none that fits")


def test_the_first_key_in_the_facts_still_binds_after_a_rotation(sim):
    rotate(sim)
    sim.stop()
    other = create_log_key(sim.folder, 0, sim.init.origin, "file:", post_quantum=False)
    sim.edit_home(log_vkey=other.keys[0].text)
    sim.refuses_to_start(BadSignature, r"epoch/0\.tlog-proof")


def test_a_log_of_two_keys_rotates_both(tmp_path):
    made = create_log_key(tmp_path, 0, ORIGIN, "file:", post_quantum=True)
    assert [len(key.public_key) for key in made.keys] == [32, 1312]
    assert open_log_keys(tmp_path, ORIGIN)[0].keys == made.keys


def test_slots_of_other_names_are_nobodys_key(tmp_path):
    made = create_log_key(tmp_path, 3, ORIGIN, "file:", post_quantum=False)
    for name in ("log-03", "log-x", "logs", "log-"):
        create_slot(tmp_path, name, "file:", None, bytes(32))
    assert {epoch: signer.keys for epoch, signer in open_log_keys(tmp_path, ORIGIN).items()} == {3: made.keys}
    retire_log_keys(tmp_path, 4)
    assert not list(tmp_path.glob("log-3.*"))
    assert (tmp_path / "log-03.age").exists()


def test_a_folder_without_a_key_of_the_log_says_what_is_missing(tmp_path):
    with pytest.raises(Incomplete, match=r"expected a file .*log\.custody\.json"):
        open_log_keys(tmp_path, ORIGIN)
    (tmp_path / "log-2.age").write_text("half")
    with pytest.raises(Incomplete, match=r"expected a file .*log-2\.custody\.json"):
        open_log_keys(tmp_path, ORIGIN)


def test_facts_that_name_another_post_quantum_key_are_refused(sim):
    sim.stop()
    other = create_log_key(sim.folder, 0, sim.init.origin, "file:", post_quantum=True)
    sim.edit_home(log_pq_vkey=other.keys[1].text)
    sim.refuses_to_start(IntegrityError, "home.json names another log key than .*keys holds")


def test_an_appliance_with_a_post_quantum_log_signs_with_both_keys_through_a_rotation(tmp_path, sim):
    made = initialise(
        tmp_path / "second",
        profile="development",
        custody_uri="file:",
        secret=None,
        trust=[],
        officers=None,
        people={},
        post_quantum_log=True,
    )
    home = Home(tmp_path / "second")
    keys = LogKeys.of(VerifierKey.parse(made.log_vkey), VerifierKey.parse(made.log_pq_vkey))
    assert verify_tree_head(made.tree_head.encode(), keys).size == 1
    for epoch in (1, 2):
        opened = open_appliance(home, sysroot=sim.host)
        rotate_log_key(opened.core, opened.core.person(0), "yearly")
        opened.core.gate.outcome("note", "Custodian:custodian", "note", "Appliance:x", {})
        opened.core.log.close()
        opened.core.catalog.close()
        os.close(opened.lock)
        report = verify_log(home.log, keys)
        assert (len(report.epochs), len(report.signers)) == (epoch + 1, 2)
