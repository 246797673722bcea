"""Activations computed again instead of kept: the same bits, in less room; and what a run takes of a card."""

from __future__ import annotations

import numpy as np
import pytest

import kernels
from appliance.errors import ContentRefused
from appliance.training.config import parse_config
from appliance.training.memory import arena_bytes, card_bytes, check_card
from appliance.training.trainer import Trainer
from kernels.cuda.ops import Cuda
from tests.kernels.cuda.shim import library
from tests.kernels.cuda.shim.device import ShimDevice
from tests.kernels.cuda.test_backend import trainer_of

GIB = 1 << 30
GPT2 = (
    "[model]\nlayers = 12\nwidth = 768\nheads = 12\ncontext = 1024\nvocabulary = 50257\n"
    '[train]\nbatch = {batch}\nprecision = "bf16"\nrecompute = {recompute}\n'
    '[data]\ncorpus = "t"\ntokenizer = "words"\n'
)


def gpt2(batch, recompute):
    return parse_config(GPT2.format(batch=batch, recompute=str(recompute).lower()).encode())


@pytest.mark.parametrize("choice", ["", 'activation = "swiglu"\nnorm = "rmsnorm"\n', "dropout = 0.2\n"])
def test_a_run_that_recomputes_gives_the_same_bits(corpus_of, config_of, text, choice):

    finals = []
    for recompute in ("false", "true"):
        config = config_of(model=choice, recompute=recompute)
        trainer = Trainer(config, corpus_of([text], config), kernels.backend())
        results = [trainer.step() for _ in range(3)]
        finals.append((results, trainer.model.parameters.flat.tobytes()))
    assert finals[0] == finals[1]


def test_all_blocks_share_one():
    kept, again = (arena_bytes(gpt2(8, recompute), 8) for recompute in (False, True))
    assert again < kept / 2


def test_gpt2_trains_within_four_gibibytes():
    for batch, recompute in ((1, False), (8, True)):
        assert sum(card_bytes(gpt2(batch, recompute)).values()) < 4 * GIB
    check_card(gpt2(8, recompute=True), 4 * GIB, "a card")


def test_a_card_that_is_too_small_is_refused_with_the_numbers():
    with pytest.raises(
        ContentRefused, match=r"4096 MiB that are free on a card, found an estimate of \d+ MiB"
    ) as told:
        check_card(gpt2(64, recompute=False), 4 * GIB, "a card")
    assert "set train.recompute" in str(told.value)
    assert "activations" in str(told.value)


def test_the_estimate_is_what_a_run_takes():

    if reason := library.missing():
        pytest.skip(reason)
    config = parse_config(
        b"[model]\nlayers = 2\nwidth = 128\nheads = 4\ncontext = 32\n[train]\nsteps = 1\nwarmup_steps = 0\n"
        b'batch = 2\nprecision = "bf16"\n[data]\ncorpus = "t"\n'
    )
    card = ShimDevice(1 << 26)
    trainer = trainer_of(config, Cuda(card))
    trainer.step()
    taken = card.size - card.free_bytes()
    expected = sum(card_bytes(config).values())
    assert np.isclose(taken, expected, rtol=0.15)
    small = ShimDevice(expected // 2)
    with pytest.raises(ContentRefused, match="free on cuda/shim"):
        trainer_of(config, Cuda(small))
    assert not small.memory
