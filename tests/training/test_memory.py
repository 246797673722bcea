"""What a run takes is counted before anything is made, and what does not fit is refused with the numbers."""

import dataclasses
import tracemalloc

import pytest

import kernels
from appliance.errors import ContentRefused
from appliance.training import memory
from appliance.training.config import parse_config
from appliance.training.model import GPT
from appliance.training.trainer import Trainer

HUGE = b'preset = "gpt2-124m"\n[model]\nlayers = 200\nwidth = 24576\nheads = 192\n[data]\ncorpus = "t"\n'


def test_an_arena_takes_what_was_counted(config_of):
    config = config_of(batch=7)
    model = GPT(config.model, kernels.backend())
    tracemalloc.start()
    try:
        arena = model.arena(7, config.model.context)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = memory.arena_bytes(config, 7)
    assert counted == pytest.approx(taken, rel=0.1)
    assert arena.logits.nbytes < counted


def test_weights_gradients_and_moments_are_counted_by_the_layout(config_of):
    config = config_of()
    found = memory.estimate(config, 4)
    size = 4 * GPT(config.model, kernels.backend()).layout.size
    assert (found.weights, found.gradients, found.moments, found.checkpoint) == (
        size,
        4 * size,
        2 * size,
        3 * size,
    )
    assert found.corpus == 2 * 256 * 2**20
    assert found.total > sum(dataclasses.astuple(found))


def test_a_run_beyond_the_machine_is_refused_with_the_numbers_before_anything_is_made():
    config = parse_config(HUGE)
    tracemalloc.start()
    try:
        with pytest.raises(
            ContentRefused,
            match=r"expected a run within the \d+ MiB of the machine, found an estimate of \d{8} MiB "
            r"\(weights \d+, gradients .*corpus 512\); lower train\.batch",
        ):
            Trainer(config, None, kernels.backend())
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


def test_a_budget_of_the_config_counts_instead_of_the_machine(config_of):
    memory.check_memory(config_of(memory=2000), 4)
    with pytest.raises(ContentRefused, match=r"expected a run within the 400 MiB of train\.memory, found"):
        memory.check_memory(config_of(memory=400), 4)


def test_the_machine_that_is_meant_counts_and_a_larger_budget_does_not_make_it_larger(config_of):
    with pytest.raises(ContentRefused, match=r"expected a run within the 100 MiB of the machine, found"):
        memory.check_memory(config_of(memory=2000), 4, 100 * 2**20)
    memory.check_memory(config_of(), 4, 2000 * 2**20)
