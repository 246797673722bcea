"""Losses over 100 steps from one start: those of PyTorch, and those of our own arithmetic in float64."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import kernels
from appliance.training.lanes import Lanes
from appliance.training.model import GPT
from appliance.training.optimizer import AdamW
from appliance.training.schedule import learning_rate
from appliance.training.trainer import Trainer
from kernels.errors import KernelError

STEPS = 100
DIGITS = 1e-5  # relative: five digits
HERE = Path(__file__)
PYTHON = HERE.parents[2] / "bench" / ".venv" / "bin" / "python"  # `make bench/.venv/.ready`
VARIANTS = {
    "gpt2": "",
    "modern": 'positions = "rotary"\nnorm = "rmsnorm"\nactivation = "swiglu"\ntied_head = false\n',
}


def usable_backends():
    for name in kernels.NAMES:
        try:
            yield kernels.backend(name)
        except KernelError:
            print(f"the backend {name} is not built here and was not compared")


@pytest.fixture(params=VARIANTS)
def config(request, config_of):
    return config_of(
        model=VARIANTS[request.param] + "",
        steps=STEPS,
        warmup_steps=10,
        batch=4,
        learning_rate=0.003,
        min_learning_rate=0.0003,
    )


def losses_of(config, corpus, backend):
    trainer = Trainer(config, corpus, backend)
    return [trainer.step().loss for _ in range(STEPS)]


def float64_losses(config, corpus):
    model = GPT(config.model, kernels.backend("reference"), np.float64)
    model.initialise(config.train.seed)
    model.parameters.flat[:] = model.parameters.flat.astype(np.float32)
    lanes, optimizer = Lanes(model, config.train.batch, 1), AdamW(model.layout, model.backend, np.float64)
    losses = []
    for step in range(STEPS):
        loss, gradients = lanes.loss_and_gradient(corpus.batch(step))
        norm, rate = model.backend.global_norm(gradients.flat), learning_rate(config.train, step)
        optimizer.update(model.parameters, gradients, config.train, step=step, learning_rate=rate, norm=norm)
        losses.append(loss)
    return losses


def test_losses_match_those_of_float64_to_five_digits(config, corpus_of, text):
    corpus = corpus_of([text], config)
    expected = float64_losses(config, corpus)
    assert expected[-1] < 0.6 * expected[0]
    for backend in usable_backends():
        np.testing.assert_allclose(losses_of(config, corpus, backend), expected, rtol=DIGITS)


def test_losses_match_pytorchs_to_five_digits(config, corpus_of, text, tmp_path):
    if not PYTHON.exists():
        pytest.skip("PyTorch is not installed: `make bench/.venv/.ready` puts it beside the bench")
    corpus = corpus_of([text], config)
    model = GPT(config.model, kernels.backend("reference"))
    model.initialise(config.train.seed)
    batches = [corpus.batch(step) for step in range(STEPS)]
    np.savez(
        tmp_path / "start.npz",
        model=json.dumps(dataclasses.asdict(config.model)),
        run=json.dumps(dataclasses.asdict(config.train)),
        tokens=np.stack([batch.tokens for batch in batches]),
        targets=np.stack([batch.targets for batch in batches]),
        **{f"p:{name}": view for name, view in model.parameters.views.items()},
    )
    command = [str(PYTHON), str(HERE.with_name("pytorch_peer.py")), str(tmp_path / "start.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = json.loads(done.stdout)
    for backend in usable_backends():
        np.testing.assert_allclose(losses_of(config, corpus, backend), expected, rtol=DIGITS)
