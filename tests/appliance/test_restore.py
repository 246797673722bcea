"""A backup becomes an appliance again: same objects, same people, a new log that names the old one."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from appliance import restore as module
from appliance.catalog.entries import EXPORTED, OUTGOING, REPEATED, ROLE, USED
from appliance.cli.root import appliance
from appliance.custodian.start import open_appliance
from appliance.custody.unsealing import open_custody
from appliance.errors import AlreadyExists, Busy, IntegrityError
from appliance.gate import NamedObject
from appliance.home import Home
from appliance.ledger import CLOCK_SET, LIMITS_CHANGED, POLICY_LOADED, RELEASE_FLOOR, ROOT_CHANGED
from appliance.restore import CARRIED, restore
from audit.entry import parse_entry
from audit.errors import AuditError
from audit.note import VerifierKey
from audit.verify import verify_log
from tests.simulator import digests


@pytest.fixture
def backup(sim):
    """A copy of a home with two objects and an import, from before the last entries of the original."""
    config = sim.add("config", "tiny", b"config")
    sim.add("weights", "tiny", b"the weights", [config])
    said = {"channel": "lab", "bundle_seq": 7, "manifest_sha256": "ab" * 32}
    sim.core.gate.outcome("bundle-imported", "Person:operator", "import", "Bundle:b", said)
    sim.core.catalog.set_last_bundle(*OUTGOING, 3, "cd" * 32)
    sim.stop()
    shutil.copytree(sim.home.root, sim.folder / "backup")
    sim.start()
    sim.unseal()
    return sim.folder / "backup"


def opened(home, sim):
    made = open_appliance(home, sysroot=sim.host)
    core = made.core
    core.custody = open_custody(core.home, core.facts, core.vault, core.live, None)
    return made


@pytest.fixture
def running(backup, sim, tmp_path):
    restored = restore(backup, tmp_path / "restored", origin="log.example/second")
    made = opened(Home(tmp_path / "restored"), sim)
    yield restored, made.core
    made.core.log.close()
    made.core.catalog.close()
    os.close(made.lock)


def test_the_new_log_names_the_old_one_and_verifies_under_its_own_key(backup, sim, tmp_path):
    before = digests(backup)
    old = verify_log(backup / "log", VerifierKey.parse(sim.init.log_vkey))
    restored = restore(backup, tmp_path / "restored", origin="log.example/second")
    report = verify_log(tmp_path / "restored/log", VerifierKey.parse(restored.log_vkey))
    assert report.head.origin == restored.origin == "log.example/second"
    assert report.continues == restored.earlier
    assert (restored.earlier.head, restored.earlier.vkey.text) == (old.head, sim.init.log_vkey)
    assert report.kinds == {"genesis": 1, "object-created": 2, "bundle-imported": 1}
    assert digests(backup) == before
    assert (
        verify_log(tmp_path / "restored/earlier/log", VerifierKey.parse(sim.init.log_vkey)).head == old.head
    )


def test_a_restored_appliance_reads_its_objects_and_takes_no_bundle_twice(running):
    restored, core = running
    rows = {row.kind: row for row in core.catalog.list()}
    assert restored.carried == 3
    assert rows["weights"].parents == (rows["config"].id,)
    told = parse_entry(core.log.entry(rows["weights"].log_index))
    assert isinstance(told.context["restored_from"], int)
    last = core.catalog.last_bundle("lab", ROLE)
    assert (last.seq, core.catalog.last_bundle(*OUTGOING).seq) == (7, 3)
    grant = core.gate.request(
        start_job(rows["weights"].id), "use", NamedObject("weights", "tiny"), job="train-9"
    ).grant
    assert core.custody.unwrap(grant).object_id == rows["weights"].id


def start_job(object_id):
    from appliance.custodian.core import job_entity  # noqa: PLC0415  used once

    return job_entity("train-9", "operator", "train", [object_id])


def test_a_backup_whose_key_had_rotated_is_named_by_its_first_key(sim, tmp_path):
    from appliance.custodian.rotation import rotate_log_key  # noqa: PLC0415  used once

    rotate_log_key(sim.core, sim.operator, "yearly")
    sim.core.gate.outcome("note", "Custodian:custodian", "note", "Appliance:x", {})
    sim.stop()
    restored = restore(sim.home.root, tmp_path / "restored")
    assert (restored.earlier.vkey.text, restored.earlier.head.size) == (sim.init.log_vkey, 3)
    opened(Home(tmp_path / "restored"), sim).core.log.close()


def test_a_daemon_in_the_backup_is_not_disturbed(sim, tmp_path):
    with pytest.raises(Busy, match=r"a daemon runs in .*end it with `appliance shutdown`"):
        restore(sim.home.root, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


def test_a_place_that_is_taken_is_left_alone(backup, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter").write_text("1")
    with pytest.raises(AlreadyExists, match="expected no appliance in"):
        restore(backup, tmp_path / "thesis")


@pytest.mark.parametrize("where", ["log/checkpoint", "log/tile/entries/000.p/*"])
def test_a_backup_with_a_damaged_log_makes_nothing(backup, tmp_path, where):
    path = next(iter(backup.glob(where)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(AuditError):
        restore(backup, tmp_path / "restored")
    assert not list(tmp_path.glob("*restored*"))


def test_a_backup_with_edited_facts_makes_nothing(backup, tmp_path):
    facts = json.loads((backup / "home.json").read_text())
    facts["people"] = {"0": "mallory"}
    (backup / "home.json").write_text(json.dumps(facts, sort_keys=True, separators=(",", ":")) + "\n")
    with pytest.raises(IntegrityError, match="it was changed, take another copy"):
        restore(backup, tmp_path / "restored")


def test_a_restore_that_is_cut_off_leaves_nothing(backup, tmp_path, monkeypatch):
    def kill(*_, **__):
        raise KeyboardInterrupt

    for step in ("_copy", "create_log_key", "write_facts", "tighten"):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, kill)
            with pytest.raises(KeyboardInterrupt):
                restore(backup, tmp_path / "restored")
        assert not list(tmp_path.glob("*restored*"))
    (tmp_path / "restored").mkdir()
    assert restore(backup, tmp_path / "restored").carried == 3


def test_what_is_told_again_is_all_that_a_start_builds_its_catalog_from():
    # The catalog has no row of these: the ledger reads them.
    told = {*CARRIED} - {CLOCK_SET, LIMITS_CHANGED, POLICY_LOADED, RELEASE_FLOOR, ROOT_CHANGED}
    # Requests of before name the old log; exports are numbered on.
    assert {*told, USED, EXPORTED} == set(REPEATED)


def test_the_command_restores_and_says_what_to_hand_out(backup, tmp_path):
    arguments = ["--home", str(tmp_path / "restored"), "restore-log", "--from", str(backup)]
    done = CliRunner().invoke(appliance, arguments, input="n\n")
    assert (done.exit_code, (tmp_path / "restored").exists()) == (130, False)
    done = CliRunner().invoke(appliance, [*arguments, "--yes"])
    assert done.exit_code == 0, done.output
    assert "give auditors the new log key" in done.output
    arguments[1] = str(tmp_path / "another")
    done = CliRunner().invoke(appliance, [*arguments, "--yes", "--json"])
    said = json.loads(done.output)
    assert (said["carried"], said["earlier_size"]) == (3, 6)
