"""A catalog made anew from the log: whole, with what can be kept of the one before, or not at all."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from appliance import rebuild as module
from appliance.catalog import ApprovalRequest
from appliance.cli.root import appliance
from appliance.errors import Busy, IntegrityError, SpaceExhausted
from appliance.rebuild import rebuild_catalog
from tests.simulator import OPERATOR, digests


@pytest.fixture
def filled(sim):
    """Two objects, a job with a checkpoint, a request with a signature, and bundles in both directions."""
    config = sim.add("config", "tiny", b"[model]")
    weights = sim.add("weights", "tiny", b"the weights", [config])
    optimizer = sim.add("optimizer", "tiny", b"moments", [config])
    catalog = sim.core.catalog
    catalog.add_job(id="train-1", name="t", owner=OPERATOR, config=config.id, log_index=3, steps=9)
    catalog.add_checkpoint("train-1", 3, weights.id, optimizer.id)
    catalog.set_job("train-1", state="done")
    sim.approve(sim.request_export(weights, sim.recipient()), "alice")
    for kind, said in (
        ("bundle-imported", {"channel": "lab", "bundle_seq": 7, "manifest_sha256": "ab" * 32}),
        ("bundle-exported", {"bundle_seq": 2, "manifest_sha256": "cd" * 32}),
    ):
        sim.core.gate.outcome(kind, "Person:operator", "import", "Bundle:x", said)
    sim.restart()
    return sim


def everything(sim):
    tables = ("objects", "parents", "jobs", "job_objects", "checkpoints", "requests", "approvals", "replay")
    return {
        name: sorted(sim.core.catalog._database.rows(f"SELECT * FROM {name}"))  # noqa: S608  a test's constants
        for name in tables
    }


def test_a_readable_catalog_is_rebuilt_to_what_it_was(filled):
    before = everything(filled)
    filled.stop()
    bytes_before = filled.home.catalog.read_bytes()
    made = rebuild_catalog(filled.home)
    assert (made.objects, made.carried, made.lost) == (3, 4, 0), "job, checkpoint, request, approval"
    assert made.before.name == "catalog.db.before-1"
    assert made.before.read_bytes() == bytes_before
    filled.start()
    assert everything(filled) == before
    assert filled.core.orphans == filled.core.missing == ()


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000, None])
def test_a_lost_or_damaged_catalog_is_rebuilt_as_far_as_the_log_tells(filled, damage):
    before = everything(filled)
    filled.stop()
    if damage is None:
        filled.home.catalog.unlink()
    else:
        filled.home.catalog.write_bytes(damage)
    made = rebuild_catalog(filled.home)
    assert (made.objects, made.carried) == (3, 0)
    filled.start()
    after = everything(filled)
    for told in ("objects", "parents", "replay"):
        assert after[told] == before[told]
    assert after["jobs"] == after["requests"] == []


def test_a_catalog_with_one_torn_page_is_refused_and_rebuilt(filled):
    filled.stop()
    data = bytearray(filled.home.catalog.read_bytes())
    data[4096 * 3 : 4096 * 4] = os.urandom(4096)
    filled.home.catalog.write_bytes(data)
    filled.refuses_to_start(IntegrityError, "catalog .*`appliance catalog rebuild`")
    assert rebuild_catalog(filled.home).objects == 3
    filled.start()


def test_rows_of_an_old_catalog_that_fit_nothing_are_counted_and_left(filled):
    filled.edit_catalog("UPDATE jobs SET config = ?", "f" * 64)
    filled.stop()
    filled.edit_catalog("PRAGMA user_version = 2")
    made = rebuild_catalog(filled.home)
    assert made.objects == 3
    filled.start()
    assert filled.core.catalog.jobs() == ()


def test_a_request_that_the_log_says_was_used_does_not_come_back_open(filled):
    request = filled.core.catalog._database.rows("SELECT id FROM requests")[0][0]
    said = {"request": request, "decision": 1, "people": []}
    filled.core.gate.outcome("request-used", "Person:operator", "export", f"Request:{request}", said)
    filled.core.catalog.use_request(request)
    filled.stop()
    filled.edit_catalog("UPDATE requests SET state = 'open'")
    rebuild_catalog(filled.home)
    filled.start()
    row: ApprovalRequest = filled.core.catalog.request(request)
    assert row.state == "used"


def test_a_daemon_at_work_is_left_alone(sim):
    with pytest.raises(Busy, match=r"a daemon runs in .*: end it with `appliance shutdown`"):
        rebuild_catalog(sim.home)


@pytest.mark.parametrize("step", ["_carry", "_set_aside"])
def test_a_rebuilding_that_is_cut_off_changes_nothing_and_can_be_repeated(filled, monkeypatch, step):
    filled.stop()
    before = digests(filled.home.root)

    def full(*_):
        raise SpaceExhausted("no space")

    with monkeypatch.context() as patched:
        patched.setattr(module, step, full)
        with pytest.raises(SpaceExhausted):
            rebuild_catalog(filled.home)
    assert digests(filled.home.root) == before
    assert rebuild_catalog(filled.home).objects == 3
    assert rebuild_catalog(filled.home).before.name == "catalog.db.before-2"
    filled.start()


def test_the_command_says_what_was_kept(filled):
    filled.stop()
    arguments = ["--home", str(filled.home.root), "catalog", "rebuild"]
    done = CliRunner().invoke(appliance, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["objects"] == 3
    done = CliRunner().invoke(appliance, arguments)
    assert "catalog.db.before-2" in done.output
    assert "next: start the daemon" in done.output
