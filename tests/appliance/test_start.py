"""Starting: one process a home, nothing held after a refusal, and what a crash cut off is set right."""

from __future__ import annotations

import os

import pytest

from appliance.catalog.entries import row_of
from appliance.custodian.start import open_appliance, take_lock
from appliance.errors import Busy, SetBack, UnknownObject
from appliance.home import Home
from appliance.inventory import CREATED
from appliance.rebuild import rebuild_catalog
from audit.entry import parse_entry
from audit.errors import LogBusy
from audit.log import Log


def test_a_second_daemon_on_the_same_home_is_refused(sim):
    with pytest.raises(Busy, match=r"another daemon runs in .*: end it with `appliance shutdown`"):
        open_appliance(sim.home)
    sim.stop()
    sim.start()


def test_an_inherited_lock_is_taken_over(sim):
    lock = sim._opened.lock
    assert take_lock(sim.home, lock) == lock
    assert not os.get_inheritable(lock)


def test_no_appliance_is_told_as_such(tmp_path):
    with pytest.raises(UnknownObject, match=r"no appliance in .*: make one with `appliance init`"):
        take_lock(Home(tmp_path), None)


def test_a_log_held_by_another_program_is_refused_and_the_home_let_go(sim):
    signer = sim.core.log.epochs.signer()
    sim.stop()
    held = Log.open(sim.home.log, signer)
    sim.refuses_to_start(LogBusy, "another process has this log open; stop it first")
    held.close()
    sim.start()


def test_a_start_opens_sealed(sim):
    sim.restart()
    sim.stop()
    sim.start()
    assert sim.core.sealed


def crash_before_the_row(sim, monkeypatch, **given):
    """Publish and log an object, and die before the catalog has it."""

    class Died(BaseException):
        pass

    def die(*_):
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(sim.core.catalog, "add", die)
        with pytest.raises(Died):
            sim.add(**given)
    sim.crash()


def test_a_row_that_a_crash_kept_from_the_catalog_is_added_from_the_log(sim, monkeypatch):
    config = sim.add("config", "tiny", b"[model]")
    crash_before_the_row(
        sim, monkeypatch, kind="weights", name="tiny", plaintext=b"the weights", parents=[config]
    )
    sim.start()
    sim.unseal()
    row = sim.core.catalog.find("weights", "tiny")
    assert row is not None
    assert row.parents == (config.id,)
    assert row == row_of(parse_entry(sim.core.log.entry(row.log_index)))
    assert sim.read(row) == b"the weights"
    assert sim.core.orphans == ()


def test_catching_up_twice_adds_nothing(sim, monkeypatch):
    crash_before_the_row(sim, monkeypatch, kind="weights", name="tiny", plaintext=b"x")
    for _ in range(3):
        sim.start()
        assert len(sim.core.catalog.list()) == 1
        assert [entry.kind for entry in sim.entries()].count(CREATED) == 1
        sim.crash()
    sim.start()


def test_a_catalog_that_was_lost_is_noticed_and_rebuilt_whole(sim):
    made = [
        sim.add("config", "tiny", b"[model]"),
        sim.add("weights", "tiny", b"1"),
        sim.add("weights", "tiny", b"2"),
    ]
    sim.stop()
    sim.home.catalog.unlink()
    with pytest.raises(SetBack, match=r"found 3 that it lacks; .*`appliance catalog rebuild`"):
        sim.start()
    rebuild_catalog(sim.home)
    sim.start()
    sim.unseal()
    assert sim.core.catalog.list() == tuple(made)
    assert sim.entries()[-1].kind == "catalog-rebuilt"
    assert sim.read(made[2]) == b"2"


def test_a_crash_between_publication_and_entry_leaves_an_orphan_that_is_named(sim):
    staged = sim.stage(b"never logged")
    sim.core.vault.publish(staged.id)
    sim.crash()
    sim.start()
    assert sim.core.orphans == (staged.id,)
    assert sim.core.catalog.list() == ()


def test_an_object_whose_bytes_are_gone_is_named(sim):
    made = sim.add("weights", "tiny", b"1")
    (sim.home.vault / made.id / "payload").unlink()
    sim.restart()
    assert sim.core.missing == (made.id,)


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_that_a_crash_cut_off_is_failed_and_logged_once(sim, state):
    config = sim.add("config", "tiny", b"[model]")
    sim.core.catalog.add_job(
        id="train-1", name="tiny", owner="operator", config=config.id, log_index=config.log_index
    )
    sim.core.catalog.set_job("train-1", state=state, step=40)
    sim.crash()
    sim.start()
    job = sim.core.catalog.job("train-1")
    assert (job.state, job.step) == ("failed", 40)
    assert job.reason == "the daemon ended: continue with `appliance train --resume train-1`"
    entry = sim.entries()[-1]
    assert (entry.kind, entry.resource, entry.context["reason"]) == (
        "job-ended",
        "JobRecord:train-1",
        "custodian-ended",
    )
    size = sim.core.log.size
    sim.crash()
    sim.start()
    assert sim.core.log.size == size


def test_every_grant_of_before_is_gone(sim):
    made = sim.add("weights", "tiny", b"1")
    sim.use(made)
    assert sim.core.live._unused
    sim.restart()
    assert not sim.core.live._unused
