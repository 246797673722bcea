"""A replay says equal only where a digest is what the log committed to, whatever the worker would like."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from appliance.custodian.replays import REPLAYED, Stretch, _Comparison, stretch_of
from appliance.errors import ProtocolError, UnknownObject, UsageError
from appliance.worklink import Began, Replayed
from tests.simulator import OPERATOR

JOB = "train-1"


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def row(sim):
    """A job with checkpoints after 10, 20 and 30 steps, made of one corpus; the first has left the vault."""
    config, corpus = sim.add("config", "tiny", b"[model]"), sim.add("corpus", "letters", b"text")
    sim.core.catalog.add_job(id=JOB, name="tiny", owner=OPERATOR, config=config.id, log_index=0)
    for step in (10, 20, 30):
        made = []
        for kind in ("weights", "optimizer"):
            plaintext = f"{kind} {step}"
            staged = dataclasses.replace(sim.stage(plaintext.encode(), kind, "tiny"), job=JOB)
            made.append(sim.publish(staged, plaintext.encode(), [config, corpus]))
        sim.core.catalog.add_checkpoint(JOB, step, *(each.id for each in made))
    sim.core.catalog.retire(sim.core.catalog.job(JOB).checkpoints[0].weights, 1)
    return sim.core.catalog.job(JOB)


@pytest.mark.parametrize(
    ("begin", "steps", "start", "compared"),
    [(0, 100, 0, [10, 20, 30]), (0, 10, 0, [10]), (20, 10, 20, [30]), (25, 10, 20, [30]), (29, 1, 20, [30])],
)
def test_a_stretch_begins_at_or_before_its_step_and_compares_what_is_logged(
    sim, row, begin, steps, start, compared
):
    stretch = stretch_of(sim.core, row, begin, steps)
    assert (stretch.begin, [each.step for each in stretch.compared]) == (start, compared)
    assert [each.kind for each in stretch.data] == ["corpus"]
    assert stretch.inputs("c")[:2] == ["c", stretch.data[0].id]
    assert len(stretch.inputs("c")) == (4 if start else 2)


@pytest.mark.parametrize(
    ("begin", "steps", "error", "told"),
    [
        (-1, 5, UsageError, "expected a step from 0"),
        (0, 0, UsageError, "at least 1 step"),
        (0, 9, UsageError, "the next is of step 10"),
        (30, 9, UsageError, "none lies behind it"),
        (15, 9, UnknownObject, "the oldest kept is of step 20; --from 0 computes from the first weights"),
    ],
)
def test_a_stretch_that_shows_nothing_is_refused(sim, row, begin, steps, error, told):
    with pytest.raises(error, match=told):
        stretch_of(sim.core, row, begin, steps)


@pytest.fixture
def comparison(sim, row):
    made = _Comparison(sim.core, row, stretch_of(sim.core, row, 0, 30))
    made.began(Began(0, "reference", "reference", 2))
    return made


def test_equal_digests_are_equal_and_the_log_says_how_far(sim, comparison):
    for step in (10, 20, 30):
        assert not comparison.complete
        told = comparison.compare(Replayed(step, sha(f"weights {step}"), sha(f"optimizer {step}")))
        assert (told["weights_equal"], told["optimizer_equal"]) == (True, True)
    assert comparison.complete
    comparison.log("replay-1")
    entry = sim.entries()[-1]
    assert (entry.kind, entry.context["equal"], entry.context["first_difference"]) == (
        REPLAYED,
        [10, 20, 30],
        None,
    )


def test_steps_on_the_way_rise_and_stay_within_the_stretch(comparison):
    assert comparison.passed(4)["step"] == 4
    for step in (4, 0, 31):
        with pytest.raises(ProtocolError, match=f"told step {step} after step 4"):
            comparison.passed(step)


@pytest.mark.parametrize("part", ["weights", "optimizer"])
def test_the_first_different_digest_ends_it_and_is_logged(sim, comparison, part):
    comparison.compare(Replayed(10, sha("weights 10"), sha("optimizer 10")))
    found = {kind: sha(f"{kind} {20 if kind != part else 30}") for kind in ("weights", "optimizer")}
    told = comparison.compare(Replayed(20, found["weights"], found["optimizer"]))
    assert told[f"{part}_equal"] is False
    assert comparison.complete
    comparison.log("replay-1")
    entry = sim.entries()[-1]
    assert (entry.context["equal"], entry.context["first_difference"]) == ([10], 20)


def test_a_worker_that_compares_something_else_is_refused(sim, row, comparison):
    with pytest.raises(ProtocolError, match="another step than it was told"):
        comparison.compare(Replayed(20, sha("weights 20"), sha("optimizer 20")))
    with pytest.raises(ProtocolError, match="began at another step"):
        comparison.began(Began(20, "reference", "reference", 2))
    assert isinstance(stretch_of(sim.core, row, 0, 30), Stretch)
