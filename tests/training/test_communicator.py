"""Ranks that share a batch come to the gradient of one that computes all of it, and stay equal."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import kernels
from appliance.errors import ContentRefused
from appliance.training.communicator import ALONE, share_of
from appliance.training.config import parse_config
from appliance.training.trainer import Trainer


class Threads:
    """Ranks that are threads of one process: each adds up what all have put down."""

    def __init__(self, rank, size, meeting, table):
        self.rank, self.size, self._meeting, self._table = rank, size, meeting, table

    def sum(self, array):
        self._table[self.rank] = array.copy()
        self._meeting.wait()
        array[...] = sum(self._table[rank] for rank in range(self.size))
        self._meeting.wait()


def config_of(more=""):
    model = f"[model]\nlayers = 2\nwidth = 16\nheads = 2\ncontext = 16\n{more}"
    run = "[train]\nsteps = 5\nwarmup_steps = 1\nbatch = 4\naccumulate = 2\n"
    return parse_config(f"{model}{run}[data]\ncorpus = 't'\n".encode())


def trained(config, corpus_of, size):
    """Losses, gradient norms and last weights of each rank after the whole run."""
    text = b"\0".join(f"record {n}: the answer to {n} is {n * n}. ".encode() * 4 for n in range(30))
    meeting, table, found = threading.Barrier(size), {}, {}

    def run(rank):
        ranks = Threads(rank, size, meeting, table) if size > 1 else ALONE
        trainer = Trainer(config, corpus_of([text], config), kernels.backend("reference"), None, ranks)
        results = [trainer.step() for _ in range(config.train.steps)]
        found[rank] = results, trainer.model.parameters.flat.copy()

    workers = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found


@pytest.mark.parametrize("more", ["", "dropout = 0.2\n"], ids=["plain", "dropout"])
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_take_the_steps_of_one_at_the_same_global_batch(corpus_of, size, more):
    config = config_of(more)
    ((expected, weights),) = trained(config, corpus_of, 1).values()
    ranks = trained(config, corpus_of, size)
    for results, found in ranks.values():
        assert [result.loss for result in results] == pytest.approx(
            [each.loss for each in expected], rel=1e-6
        )
        assert [each.grad_norm for each in results] == pytest.approx(
            [each.grad_norm for each in expected], rel=1e-6
        )
        assert np.abs(found - weights).max() <= 1e-6 * np.abs(weights).max()
        np.testing.assert_array_equal(found, ranks[0][1])


def test_every_sequence_of_a_batch_is_computed_once():
    shares = [share_of(12, Threads(rank, 3, None, None)) for rank in range(3)]
    assert [index for share in shares for index in range(12)[share]] == list(range(12))
    assert share_of(12, ALONE) == slice(0, 12)


def test_a_batch_that_ranks_cannot_share_evenly_is_refused():
    with pytest.raises(ContentRefused, match=r"expected a multiple of the 3 ranks, found 4"):
        share_of(4, Threads(0, 3, None, None))
