"""Checkpoints leave the vault by rule and by a logged act, and a crash in between changes nothing of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.catalog import Checkpoint
from appliance.custodian.core import job_entity
from appliance.custodian.retention import RETIRED, Figures, Rule, fall_out, retire
from appliance.errors import PolicyRefused
from policy.engine import Engine
from tests.appliance.test_compartments import labelled
from tests.simulator import OPERATOR

JOB = "train-1"
STEPS = (10, 20, 30, 40, 50)
BITS = {10: 3.0, 20: 1.5, 30: 2.0, 40: 2.5, 50: 2.6}


@pytest.mark.parametrize(
    ("rule", "fallen"),
    [
        (Rule(2, 0, 0), (10, 20, 30)),
        (Rule(2, 1, 0), (10, 30)),
        (Rule(2, 2, 0), (10,)),
        (Rule(3, 0, 0), (10, 20)),
        (Rule(2, 0, 20), (10, 30)),
        (Rule(5, 0, 0), ()),
        (Rule(0, 0, 0), (10, 20, 30)),
        (Rule(-1, -1, -1), (10, 20, 30)),
    ],
)
def test_what_no_part_of_the_rule_keeps_falls_out(rule, fallen):
    assert fall_out(STEPS, BITS, rule) == fallen


@given(
    steps=st.lists(st.integers(0, 1000), unique=True, max_size=12),
    figures=st.dictionaries(st.integers(0, 1000), st.floats(0, 10), max_size=12),
    rule=st.builds(Rule, *[st.integers(-3, 12)] * 3),
)
def test_the_newest_two_always_stay_and_only_what_is_there_falls_out(steps, figures, rule):
    fallen = set(fall_out(steps, figures, rule))
    assert fallen <= set(steps) - set(sorted(steps)[-2:])


def saved(sim, step):
    """One checkpoint of the job, published and catalogued."""
    made = [
        sim.publish(dataclasses.replace(sim.stage(b"saved", kind, "tiny"), job=JOB), b"saved")
        for kind in ("weights", "optimizer")
    ]
    sim.core.catalog.add_checkpoint(JOB, step, *(row.id for row in made))
    return Checkpoint(step, *(row.id for row in made))


@pytest.fixture
def job(sim):
    """A job with three checkpoints."""
    config = sim.add("config", "tiny", b"[model]")
    sim.core.catalog.add_job(id=JOB, name="tiny", owner=OPERATOR, config=config.id, log_index=0)
    return [saved(sim, step) for step in (10, 20, 30)]


def demand_gone(sim, checkpoint):
    """Bytes gone, row kept, nothing opens, the others stand."""
    rows = sim.core.catalog.job(JOB)
    assert [each.retired for each in rows.checkpoints] == [True, False, False]
    assert [each.step for each in rows.kept] == [20, 30]
    for name in (checkpoint.weights, checkpoint.optimizer):
        assert not (sim.home.vault / name).exists()
        row = sim.core.catalog.get(name)
        with sim.refused(PolicyRefused, "object-retired", ["deny use"]):
            sim.core.gate.request(job_entity(JOB, OPERATOR, "train", [name]), "use", row, job=JOB)
    assert sim.core.missing == sim.core.orphans == ()


def test_a_retired_checkpoint_is_gone_and_the_log_says_so(sim, job):
    before = sim.core.log.size
    retire(sim.core, JOB, OPERATOR, job[:1])
    told = [(entry.kind, entry.action) for entry in sim.entries(before)]
    assert told == [("decision", "retire"), ("decision", "retire"), (RETIRED, "retire")]
    assert sim.entries(before)[-1].context["objects"] == [job[0].weights, job[0].optimizer]
    demand_gone(sim, job[0])
    sim.restart()
    demand_gone(sim, job[0])
    sim.verify_log()


def test_a_crash_after_the_entry_is_made_good_at_the_next_start(sim, job, monkeypatch):
    def power_cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sim.core.catalog, "retire", power_cut)
    with pytest.raises(KeyboardInterrupt):
        retire(sim.core, JOB, OPERATOR, job[:1])
    assert (sim.home.vault / job[0].weights).exists()
    sim.crash()
    sim.start()
    sim.unseal()
    demand_gone(sim, job[0])


def test_a_crash_before_the_folders_went_is_made_good_at_the_next_start(sim, job, monkeypatch):
    def power_cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sim.core.vault, "remove", power_cut)
    with pytest.raises(KeyboardInterrupt):
        retire(sim.core, JOB, OPERATOR, job[:1])
    sim.crash()
    sim.start()
    sim.unseal()
    demand_gone(sim, job[0])


def test_rules_that_say_no_keep_the_checkpoint_and_the_job_goes_on(sim, job, monkeypatch):
    """An older set of rules knows no such action: whatever is not permitted is kept."""
    rules = {path.name: path.read_text() for path in Path(sim.home.policy).glob("*.cedar")}
    schema = (sim.home.policy / "schema.cedarschema").read_text()
    without = {
        name: text.replace('"job-retires-its-checkpoints")\npermit', '"never-retires")\nforbid')
        for name, text in rules.items()
    }
    assert without != rules
    monkeypatch.setattr(sim.core.gate, "_engine", Engine(without, schema))
    retire(sim.core, JOB, OPERATOR, job[:2])
    assert [each.step for each in sim.core.catalog.job(JOB).kept] == [10, 20, 30]
    assert all((sim.home.vault / each.weights).exists() for each in job)


def test_an_object_of_another_kind_is_never_retired(sim, job):
    config = sim.core.catalog.find("config", "tiny")
    retire(sim.core, JOB, OPERATOR, [Checkpoint(1, config.id, config.id)])
    assert not sim.core.catalog.get(config.id).retired
    assert job


def test_figures_outlive_a_restart_and_shrink_to_what_is_kept(sim):
    figures = Figures(sim.core, JOB)
    for step, bits in BITS.items():
        figures.note(step, bits)
    figures.keep((20, 40))
    assert figures.by_step == {20: 1.5, 40: 2.5, 50: 2.6}
    sim.restart()
    assert Figures(sim.core, JOB).by_step == {20: 1.5, 40: 2.5, 50: 2.6}
    assert Figures(sim.core, "train-2").by_step == {}


def test_a_checkpoint_made_again_takes_the_place_of_a_damaged_one(sim, job):
    again = saved(sim, 30)
    assert sim.core.catalog.job(JOB).checkpoints[-1] == again
    assert again != job[-1]


def test_a_labelled_checkpoint_retires_by_what_its_owner_carries(sim):
    weights, optimizer = (labelled(sim, kind, "tiny", ("a",)) for kind in ("weights", "optimizer"))
    fallen = [Checkpoint(1, weights.id, optimizer.id)]
    sim.core.facts = dataclasses.replace(sim.core.facts, compartments={OPERATOR: ("a",)})
    retire(sim.core, JOB, OPERATOR, fallen)
    assert not sim.core.vault.holds(weights.id)
    assert not sim.core.vault.holds(optimizer.id)
