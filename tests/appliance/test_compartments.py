"""Labels from the signer of a bundle to the model: who does not carry one works with nothing of it."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import patch

import pytest

from appliance.custodian import outputs as outputs_module
from appliance.custodian.core import job_entity
from appliance.custodian.imports import _labels
from appliance.custodian.outputs import Outputs
from appliance.errors import PolicyRefused


def labelled(sim, kind, name, labels, parents=()):
    """Seal one object of these labels, as an import from their signer does."""
    with patch.object(
        outputs_module.Outputs,
        "__init__",
        lambda self, *a, **k: Outputs_init(self, *a, **k, compartments=labels),
    ):
        return sim.add(kind, name, b"bytes of it", parents)


Outputs_init = Outputs.__init__


def test_a_bundle_has_the_labels_of_all_who_signed_it():
    told = {"alice@example": ("a",), "bob": ("b", "c"), "carol": ("d",)}
    core = SimpleNamespace(facts=SimpleNamespace(compartments=told))
    signed = SimpleNamespace(signers=("alice@example+0a1b2c3d", "bob+0a1b2c3d"))
    assert _labels(core, signed) == ("a", "b", "c")
    assert _labels(core, SimpleNamespace(signers=("mallory+0a1b2c3d",))) == ()


def test_a_derived_object_has_the_labels_of_all_its_parents(sim):
    corpus = labelled(sim, "corpus", "tales", ("a",))
    config = labelled(sim, "config", "tiny", ("b",))
    model = sim.add("weights", "first-run", b"the weights", [config, corpus])
    assert (corpus.compartments, model.compartments) == (("a",), ("a", "b"))
    assert sim.entries()[model.log_index].context["compartments"] == ["a", "b"]


@pytest.mark.parametrize("action", ["sample", "evaluate", "request"])
def test_who_does_not_carry_a_label_works_with_no_model_of_it(sim, action):
    corpus = labelled(sim, "corpus", "tales", ("a",))
    model = sim.add("weights", "first-run", b"the weights", [corpus])
    with sim.refused(PolicyRefused, "need-to-know.*carries the compartments", [f"deny {action}"]):
        sim.ask(action, model)


def test_a_job_of_somebody_who_does_not_carry_a_label_gets_no_key_of_it(sim):
    corpus = labelled(sim, "corpus", "tales", ("a",))
    job = job_entity("train-1", "operator", "train", [corpus.id])
    with sim.refused(PolicyRefused, "invariant:need-to-know", ["deny use"]):
        sim.core.gate.request(job, "use", corpus, job="train-1")
    told = job_entity("train-1", "operator", "train", [corpus.id], ("a",))
    assert sim.core.gate.request(told, "use", corpus, job="train-1").grant.object_id == corpus.id


def test_a_decision_covers_the_labels_of_everything_that_it_names(sim):
    config = sim.add("config", "tiny", b"[model]")
    corpus = labelled(sim, "corpus", "tales", ("a",))
    sim.ask("train", config)
    with sim.refused(PolicyRefused, "forbidden-by:need-to-know", ["deny train"]):
        sim.core.gate.request(sim.operator, "train", config, named=(config.id, corpus.id))
