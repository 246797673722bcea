"""A catalog that was edited: each row is a cache of a log entry, and a difference denies."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from appliance.custodian import imports
from appliance.custodian.clients import Caller
from appliance.custodian.evaluations import Evaluations
from appliance.custodian.jobs import Run
from appliance.custodian.tasks import sample
from appliance.custodian.trains import Trains
from appliance.errors import IntegrityError
from appliance.gate import NamedObject
from tests.simulator import OPERATOR

JOB = "train-1"
DIFFERS = "catalog-differs-from-log"
NUMBERS = {"prompt": "x", "length": 1, "stop": ""}


@pytest.fixture
def weights(sim):
    config = sim.add("config", "tiny", b"[model]")
    return sim.add("weights", "tiny", b"the weights", [config])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("version", 7),
        ("size", 12),
        ("sha256", "0" * 64),
        ("compartments", '["open"]'),
        ("created", "2031-01-01T00:00:00.000000Z"),
        ("job", "import-2"),
        ("state", "staged"),
        ("meta", '{"step":9}'),
        ("log_index", 0),
    ],
)
def test_an_edited_column_denies(sim, weights, column, value):
    assert sim.edit_catalog(f"UPDATE objects SET {column} = ? WHERE id = ?", value, weights.id) == 1  # noqa: S608
    with sim.refused(
        IntegrityError,
        f"may not sample weights tiny: {DIFFERS} .log entry 5.; catalog.db was",
        ["deny sample"],
    ):
        sim.ask("sample", NamedObject("weights", "tiny"))


def test_a_renamed_row_is_neither_what_it_was_nor_what_it_claims(sim, weights):
    sim.edit_catalog("UPDATE objects SET name = 'public' WHERE id = ?", weights.id)
    for name in ("public", "tiny"):
        with sim.refused(IntegrityError, DIFFERS, ["deny sample"]):
            sim.ask("sample", NamedObject("weights", name))


def test_weights_called_a_config_are_not_trained_from(sim, weights):
    sim.edit_catalog("UPDATE objects SET kind = 'config', name = 'w' WHERE id = ?", weights.id)
    with sim.refused(IntegrityError, DIFFERS, ["deny train"]):
        sim.ask("train", NamedObject("config", "w"))


def test_two_rows_that_exchanged_their_ids(sim, weights):
    other = sim.add("weights", "other", b"the others")
    for old, new in ((weights.id, "f" * 64), (other.id, weights.id), ("f" * 64, other.id)):
        sim.edit_catalog("UPDATE objects SET id = ? WHERE id = ?", new, old)
    for name in ("tiny", "other"):
        with sim.refused(IntegrityError, DIFFERS, ["deny sample"]):
            sim.ask("sample", NamedObject("weights", name))


def test_a_row_that_points_at_the_entry_of_another(sim, weights):
    other = sim.add("weights", "other", b"the others")
    sim.edit_catalog("DELETE FROM objects WHERE id = ?", weights.id)
    sim.edit_catalog("UPDATE objects SET log_index = ? WHERE id = ?", weights.log_index, other.id)
    with sim.refused(IntegrityError, DIFFERS, ["deny sample"]):
        sim.ask("sample", NamedObject("weights", "other"))


def test_a_row_that_points_past_the_log(sim, weights):
    sim.edit_catalog("UPDATE objects SET log_index = 1000000 WHERE id = ?", weights.id)
    with sim.refused(IntegrityError, "catalog-names-no-entry", ["deny sample"]):
        sim.ask("sample", NamedObject("weights", "tiny"))


def test_a_parent_that_was_removed(sim, weights):
    sim.edit_catalog("DELETE FROM parents WHERE child = ?", weights.id)
    with sim.refused(IntegrityError, DIFFERS, ["deny sample"]):
        sim.ask("sample", NamedObject("weights", "tiny"))


def test_a_row_planted_for_an_object_that_was_never_logged(sim, weights):
    staged = sim.stage(b"planted", name="planted")
    sim.core.vault.publish(staged.id)
    sim.edit_catalog(
        "INSERT INTO objects SELECT ?, kind, 'planted', 1, size, sha256, 0, created, '[]', state, job, meta "
        "FROM objects WHERE id = ?",
        *(staged.id, weights.id),
    )
    with sim.refused(IntegrityError, DIFFERS, ["deny sample"]):
        sim.ask("sample", NamedObject("weights", "planted"))


@pytest.mark.parametrize(("column", "value"), [("compartments", "open"), ("meta", "[]"), ("version", -1)])
def test_a_row_that_is_no_row_denies(sim, weights, column, value):
    sim.edit_catalog(f"UPDATE objects SET {column} = ? WHERE id = ?", value, weights.id)  # noqa: S608
    size = sim.core.log.size
    with pytest.raises(IntegrityError, match=r"may not sample .*: catalog-damaged .*rebuild it from the log"):
        sim.ask("sample", NamedObject("weights", "tiny"))
    assert [entry.decision.reasons for entry in sim.entries(size)] == [("catalog-damaged",)]
    assert not sim.core.live._unused


def test_a_row_edited_between_decision_and_use_denies_the_use(sim, weights):
    sim.ask("sample", weights)
    sim.edit_catalog("UPDATE objects SET sha256 = ? WHERE id = ?", "0" * 64, weights.id)
    with sim.refused(IntegrityError, f"may not use weights tiny: {DIFFERS}", ["deny use"]):
        sim.use(weights)


def test_a_row_held_in_memory_is_compared_again(sim, weights):
    """A caller that kept a row, or made one up, is judged by the log all the same."""
    fake = sim.forge(weights, name="public")
    with sim.refused(IntegrityError, f"may not sample weights public: {DIFFERS}", ["deny sample"]):
        sim.ask("sample", fake)


def test_a_catalog_set_back_catches_up_from_the_log(sim, weights):
    sim.stop()
    old = sim.home.catalog.read_bytes()
    sim.start()
    sim.unseal()
    newer = sim.add("weights", "newer", b"newer")
    sim.stop()
    sim.home.catalog.write_bytes(old)
    sim.start()
    sim.unseal()
    assert sim.core.catalog.get(newer.id) == newer
    assert sim.read(newer) == b"newer"


def test_a_damaged_catalog_file_refuses_to_start(sim, weights):
    sim.stop()
    with sim.undone():
        sim.home.catalog.write_bytes(b"not a database" * 1000)
        sim.refuses_to_start(IntegrityError, "catalog .* cannot be used: expected a sound database")


@pytest.mark.parametrize(
    "edit", ["UPDATE replay SET seq = 1, digest = hex(zeroblob(32))", "DELETE FROM replay"]
)
def test_a_channel_set_back_in_the_catalog_is_where_the_log_says(sim, edit):
    """A vandal with the catalog must not make an old bundle new again."""
    for number, channel in ((6, "lab"), (7, "lab"), (9, "other")):
        said = {"channel": channel, "bundle_seq": number, "manifest_sha256": f"{number}" * 64}
        sim.core.gate.outcome("bundle-imported", "Person:operator", "import", "Bundle:x", said)
        sim.core.catalog.set_last_bundle(channel, imports.ROLE, number, f"{number}" * 64)
    sim.edit_catalog(edit)
    for _ in range(2):
        last = imports._last(sim.core, "lab", imports.ROLE)
        assert (last.seq, last.digest) == (7, "7" * 64)
        sim.restart()
    assert imports._last(sim.core, "none", imports.ROLE) is None


@pytest.fixture
def job(sim):
    """A job that began as the log says, was saved once, and stopped."""
    config = sim.add("config", "tiny", b"[model]")
    began = sim.core.gate.request(sim.operator, "train", config, job=JOB).committed
    sim.core.catalog.add_job(id=JOB, name="t", owner=OPERATOR, config=config.id, log_index=began.index)
    saved = [publish_for_job(sim, kind) for kind in ("weights", "optimizer")]
    sim.core.catalog.add_checkpoint(JOB, 3, *(row.id for row in saved))
    trains = Trains(sim.core, {})
    trains._launch = lambda training: training.row.id
    return trains


def publish_for_job(sim, kind):
    return sim.publish(replace(sim.stage(b"saved", kind, "tiny"), job=JOB), b"saved")


def test_a_job_resumes_as_it_was_begun(sim, job):
    assert job.resume(sim.operator, JOB) == JOB


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE jobs SET owner = 'alice'",
        "UPDATE jobs SET config = (SELECT id FROM objects WHERE name = 'other')",
        "UPDATE jobs SET log_index = 0",
        "UPDATE checkpoints SET weights = (SELECT id FROM objects WHERE name = 'secret')",
        "UPDATE checkpoints SET weights = optimizer, optimizer = weights",
    ],
)
def test_a_job_that_was_edited_is_not_resumed(sim, job, edit):
    """It would train on from weights, or under a config, that its decision never named."""
    sim.add("config", "other", b"[model]")
    sim.add("weights", "secret", b"of another job")
    assert sim.edit_catalog(edit) == 1
    with sim.refused(IntegrityError, "is not the one that log entry .* began: catalog.db was changed"):
        job.resume(sim.operator, JOB)


def test_a_checkpoint_that_is_given_away_in_the_catalog_is_not_used(sim, job):
    stolen = sim.add("weights", "secret", b"of another job")
    sim.edit_catalog("UPDATE checkpoints SET weights = ?", stolen.id)
    sim.edit_catalog("UPDATE objects SET job = ? WHERE id = ?", JOB, stolen.id)
    with sim.refused(IntegrityError, DIFFERS, ["deny train"]):
        job.resume(sim.operator, JOB)
    with sim.refused(IntegrityError, DIFFERS, ["deny use"]):
        sim.use(sim.core.catalog.get(stolen.id), JOB)


@pytest.mark.parametrize("verb", ["train", "sample", "evaluate"])
def test_a_row_deleted_while_the_appliance_runs_does_not_bring_the_version_before_it_back(sim, verb):
    config = sim.add("config", "tiny", b"[model]")
    old, new = (sim.add("weights", "tiny", text, [config]) for text in (b"old", b"new"))
    sim.edit_catalog("DELETE FROM parents WHERE child = ?", new.id)
    assert sim.edit_catalog("DELETE FROM objects WHERE id = ?", new.id) == 1
    assert sim.core.catalog.find("weights", "tiny") == old
    denied = "deny use" if verb == "train" else f"deny {verb}"
    with sim.refused(IntegrityError, DIFFERS, [denied]):
        if verb == "train":
            Run(sim.core, JOB, OPERATOR, "train").find("weights", "tiny")
        elif verb == "sample":
            asyncio.run(anext(sample(sim.core, {}, sim.operator, "tiny", NUMBERS)))
        else:
            caller = Caller(os.getuid(), {"model": "tiny", "corpus": "tales"}, ())
            asyncio.run(Evaluations(sim.core, {}).evaluate(caller))
