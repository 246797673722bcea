"""The figures of a run leave alone: as numbers, thinned, and under a budget of their own."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from appliance.custodian import exports
from appliance.custodian.exports import Wanted, approved_export
from appliance.custodian.metrics import MOST_POINTS, metrics_of, weights_of
from appliance.custodian.retention import Figures
from appliance.errors import PolicyRefused, UnknownObject
from policy.approvals import parse_request


@pytest.fixture
def job(sim):
    """A job that made weights."""
    config = sim.add("config", "tiny", b"[model]")
    weights = sim.add("weights", "tiny", b"the weights", [config])
    sim.core.catalog.add_job(id="train-1", name="tiny", owner="operator", config=config.id, log_index=1)
    sim.core.catalog.add_result("train-1", weights.id)
    return SimpleNamespace(id="train-1", weights=weights)


def event(step, **figures):
    absent = dict.fromkeys(("loss", "bits_per_byte", "learning_rate", "reason"))
    return {"seq": step, "kind": "progress", "step": step, "steps": 9, "elapsed_s": 0.1, **absent, **figures}


def read(data):
    return json.loads(data.decode("ascii"))


def test_only_figures_are_in_it(sim, job):
    events = [event(0, reason="words of a worker"), event(1, loss=2.5), event(2, bits_per_byte=3.25)]
    told = read(metrics_of(sim.core, job.id, events))
    assert told["points"] == [{"step": 1, "loss": 2.5}, {"step": 2, "bits_per_byte": 3.25}]
    assert (told["job"], told["name"], told["state"]) == ("train-1", "tiny", "queued")
    assert b"words" not in metrics_of(sim.core, job.id, events)


def test_a_long_run_is_thinned_and_its_last_point_stays(sim, job):
    told = read(metrics_of(sim.core, job.id, [event(step, loss=1.0) for step in range(5001)]))
    assert len(told["points"]) <= MOST_POINTS
    assert told["points"][-1]["step"] == 5000
    assert told["points"][0]["step"] < 3


def test_after_a_restart_the_evaluations_that_were_kept_are_told(sim, job):
    figures = Figures(sim.core, job.id)
    figures.note(10, 2.0)
    figures.keep([10])
    assert read(metrics_of(sim.core, job.id, ()))["points"] == [{"step": 10, "bits_per_byte": 2.0}]


def test_a_job_without_weights_has_no_figures_to_decide_on(sim, job):
    config = sim.core.catalog.job(job.id).config
    sim.core.catalog.add_job(id="train-2", name="t", owner="operator", config=config, log_index=1)
    with pytest.raises(UnknownObject, match="has made no weights yet"):
        weights_of(sim.core, "train-2")


def test_a_request_for_figures_names_the_job_and_releases_no_model(sim, job):
    recipient = sim.recipient()
    asked = sim.request("export", job.id, recipients=[recipient], options={"content": "metrics"})
    sim.approve(asked, "alice", "bob")
    request = parse_request(asked.encode())
    assert request.options == {"content": "metrics", "job": "train-1", "model": "tiny version 1"}
    with sim.refused(PolicyRefused, "is for export content metrics, job train-1"):
        approved_export(sim.core, Wanted("tiny", recipient, asked, 0))
    with sim.refused(PolicyRefused, "found metrics export: ask for what you mean"):
        approved_export(sim.core, Wanted("train-2", recipient, asked, 0, b"{}"))
    weights, approved = approved_export(sim.core, Wanted("train-1", recipient, asked, 0, b"{}"))
    assert (weights, approved.people) == (job.weights, ("alice", "bob"))


def test_a_request_for_a_model_releases_no_figures(sim, job):
    recipient = sim.recipient()
    asked = sim.request_export(job.weights, recipient)
    with sim.refused(PolicyRefused, "is for export model tiny version 1"):
        approved_export(sim.core, Wanted("train-1", recipient, asked, 0, b"{}"))


def test_figures_are_decided_on_as_an_export_and_counted_as_figures(sim, job, monkeypatch, tmp_path):
    async def nothing(*_, **__):
        raise OSError("no worker here")

    monkeypatch.setattr(exports.Worker, "start", nothing)
    recipient = sim.recipient()
    asked = sim.request("export", job.id, recipients=[recipient], options={"content": "metrics"})
    wanted = Wanted(job.id, recipient, asked, 0, b"{}" * 20)

    async def run():
        fd = exports.os.open(tmp_path, exports.os.O_RDONLY)
        async for _ in exports.export(sim.core, {}, sim.operator, wanted, fd):
            pass

    with sim.refused(PolicyRefused, "two-officers", ["deny export"]):
        asyncio.run(run())
    said = sim.entries()[-1].context
    assert (said["content"], said["bytes"]) == ("metrics", 40)
    sim.approve(asked, "alice", "bob")
    with pytest.raises(OSError, match="no worker here"):
        asyncio.run(run())
