"""Labels of what a job works on: nobody learns figures without them, and no worker's word washes them off."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
from types import SimpleNamespace

import pytest

from appliance.custodian.accounts import Accounts
from appliance.custodian.jobs import Run
from appliance.custodian.materials import give_named
from appliance.custodian.outputs import Outputs, Staged
from appliance.custodian.retention import Figures
from appliance.custodian.states import States
from appliance.custodian.telling import Telling
from appliance.custodian.trains import Training, Trains
from appliance.custodian.watching import Watching
from appliance.errors import PolicyRefused, ProtocolError
from appliance.worklink import Account, Progress, Verified, WantInput
from tests.simulator import OPERATOR

JOB = "train-1"
ACCOUNT = Account(0, 9, 1, 1.0, 1.0, 0.0, 1, 1, 1, 0, 0, 0, 1, 0.5, -1)


class Taking:
    """A worker that takes what it is given."""

    def __init__(self):
        self.given = []

    def give_input(self, role, _kind, payload, _key):
        os.close(payload)
        self.given.append(role)

    def send(self, message):
        self.given.append(message)

    def proceed(self):
        pass


@pytest.fixture
def told(sim):
    """An appliance whose operator carries both labels."""
    sim.core.facts = dataclasses.replace(sim.core.facts, compartments={OPERATOR: ("a", "b")})
    return sim


def verified(sim, staged, plaintext):
    """What a fresh reader finds in a staged object."""
    payload = (sim.home.vault / ".incoming" / staged.id / "payload").read_bytes()
    digests = (hashlib.sha256(data).hexdigest() for data in (payload, plaintext))
    return Verified(staged.id, len(plaintext), *digests)


def add(sim, kind, name, parents=(), *, labels=(), job=JOB):
    """Seal and publish one object among the outputs of a job that works under labels."""
    plaintext = f"{kind} {name}".encode()
    staged = dataclasses.replace(sim.stage(plaintext, kind, name), job=job)
    outputs = Outputs(sim.core, job, [kind], {}, compartments=labels)
    item = Staged(staged.id, kind, name, len(plaintext))
    return outputs._publish(item, verified(sim, staged, plaintext), parents, {})


@pytest.fixture
def job(told):
    """A job with a checkpoint made of letters, and a later one made of tales, which bear label `a`, too."""
    config = add(told, "config", "tiny", job="import-1")
    letters = add(told, "corpus", "letters", job="import-1")
    tales = add(told, "corpus", "tales", labels=["a"], job="import-1")
    catalog = told.core.catalog
    catalog.add_job(id=JOB, name="tiny", owner=OPERATOR, config=config.id, log_index=0)
    for step, parents in ((10, [config, letters]), (20, [config, letters, tales])):
        made = [add(told, kind, "tiny", parents) for kind in ("weights", "optimizer")]
        catalog.add_checkpoint(JOB, step, *(each.id for each in made))
        catalog.add_result(JOB, made[0].id)
    return SimpleNamespace(config=config, letters=letters, tales=tales)


def run_of(sim):
    row = sim.core.catalog.job(JOB)
    named = [name for each in row.kept for name in (each.weights, each.optimizer)]
    run = Run(sim.core, JOB, OPERATOR, "train", [row.config, *named])
    return row, run


def at_work(sim, run, row):
    """A training job that runs, in the table of its kind."""
    trains = Trains(sim.core, {})
    telling = Telling(run, 0)
    telling.began(0)
    training = Training(run, row, States(sim.core, run, row), Figures(sim.core, JOB), telling)
    training.task = SimpleNamespace(done=lambda: False)
    trains._jobs[JOB] = training
    return trains, training


def watched(sim, trains, uid=None):
    """The figures that somebody sees of a job."""
    caller = SimpleNamespace(
        uid=os.getuid() if uid is None else uid,
        parameters={"follow": False},
        text=lambda _: JOB,
        number=lambda _: 0,
    )

    async def events():
        return [answer["event"] async for answer in Watching(sim.core, trains).watch(caller)]

    return asyncio.run(events())


def test_the_account_of_a_job_at_work_is_for_those_who_carry_its_labels(told, job):
    row, run = run_of(told)
    trains, training = at_work(told, run, row)
    training.account = ACCOUNT
    accounts = Accounts(told.core, trains, {})
    assert accounts.shown_to(told.core.person(os.getuid()), JOB)["step"] == 9
    told.core.facts = dataclasses.replace(told.core.facts, compartments={OPERATOR: ("b",)})
    assert accounts.shown_to(told.core.person(os.getuid()), JOB) is None
    refused = told.entries()[-1].decision
    assert (refused.allow, "need-to-know:job" in refused.reasons) == (False, True)


def test_who_watches_without_the_labels_sees_that_a_job_runs_and_no_figures(told, job):
    row, run = run_of(told)
    trains, training = at_work(told, run, row)
    training.telling.take(Progress(1, 30, 2.5, 3.5, 0.001, 900.0))
    (event,) = watched(told, trains)
    assert (event["loss"], event["bits_per_byte"], event["step"]) == (2.5, 3.5, 1)
    told.core.facts = dataclasses.replace(told.core.facts, compartments={OPERATOR: ("b",)})
    (event,) = watched(told, trains)
    figures = ("loss", "bits_per_byte", "learning_rate", "tokens_per_s")
    assert [event[name] for name in figures] == [None] * 4
    assert (event["step"], event["steps"]) == (1, 30)


def test_figures_of_a_job_that_was_given_a_label_only_now_are_kept_back_at_once(told, job):
    """Nothing of the job is sealed yet, and the catalog knows of no label."""
    told.core.catalog.add_job(id="train-2", name="b", owner=OPERATOR, config=job.config.id, log_index=0)
    run = Run(told.core, JOB, OPERATOR, "train", [job.tales.id])
    trains, training = at_work(told, run, told.core.catalog.job("train-2"))
    run.give(Taking(), "corpus", job.tales)
    training.account = ACCOUNT
    told.core.facts = dataclasses.replace(told.core.facts, compartments={})
    trains._jobs = {"train-2": training}
    assert Accounts(told.core, trains, {}).shown_to(told.core.person(os.getuid()), "train-2") is None


def test_a_state_that_its_worker_calls_damaged_keeps_its_labels_on_what_that_worker_makes(told, job):
    row, run = run_of(told)
    worker, states = Taking(), States(told.core, run, row)
    states.give_next(worker)
    assert run.labels == {"a"}
    states.damaged(worker)
    assert {label for each in run.used for label in each.compartments} == set()  # the older state bears none
    made = add(told, "weights", "tiny", run.used, labels=run.labels)
    assert made.compartments == ("a",)
    assert told.entries()[made.log_index].context["compartments"] == ["a"]


def test_what_a_worker_wrote_to_its_report_has_the_labels_of_what_it_was_given(told, job):
    run = Run(told.core, JOB, OPERATOR, "train", [job.tales.id])
    outputs = Outputs(told.core, JOB, ["report"], {}, compartments=run.labels)
    run.give(Taking(), "corpus", job.tales)
    outputs.seal_report(b"words of the tales")
    (report,) = told.core.catalog.list("report")
    assert report.compartments == ("a",)
    told.core.facts = dataclasses.replace(told.core.facts, compartments={})
    reader = Run(told.core, "account-1", OPERATOR, "account", [report.id])
    with told.refused(PolicyRefused, "need-to-know", ["deny use"]):
        reader.give(Taking(), "report", report)


def test_a_job_that_goes_on_gets_the_corpora_of_its_state_whatever_the_catalog_says_of_the_job(told, job):
    other = add(told, "corpus", "letters", job="import-2")  # a newer one of this name
    told.core.catalog.add_corpus(JOB, other.id)
    row, run = run_of(told)
    run.used.append(job.config)
    worker = Taking()
    give_named(told.core, run, row, worker, WantInput("corpus", "letters"))
    assert run.used[-1].id == job.letters.id
    with pytest.raises(ProtocolError, match="asked for a corpus that the job was not made with"):
        give_named(told.core, run, row, worker, WantInput("corpus", "diaries"))
