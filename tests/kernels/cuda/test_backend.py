"""The whole op table of the CUDA backend on the tests' card: models trained on it, beside the reference.

Tolerance: bf16 rounds each factor of a product by 2^-9; the loss of a small model is then off by less than a
hundredth over a few steps, the gradient by less than a twentieth of its length.
"""

from __future__ import annotations

import numpy as np
import pytest

import kernels
from appliance.training.config import parse_config
from appliance.training.data import Corpus
from appliance.training.source import HeldBytes
from appliance.training.tokenizer import ByteTokenizer
from appliance.training.trainer import Trainer
from kernels.cuda.ops import Cuda
from kernels.errors import ArrayRefused, BackendMissing
from tests.kernels.cuda.shim import library
from tests.kernels.cuda.shim.device import ShimDevice

CHOICES = {
    "gpt2": "",
    "llama": 'positions = "rotary"\nnorm = "rmsnorm"\nactivation = "swiglu"\ntied_head = false\n',
    "dropout": "dropout = 0.1\n",
}
STEPS = 4


@pytest.fixture
def card():
    if reason := library.missing():
        pytest.skip(reason)
    card = ShimDevice(1 << 28)
    yield card
    card.close()


def config_of(choice, precision):
    return parse_config(
        f"[model]\nlayers = 2\nwidth = 32\nheads = 2\ncontext = 16\n{CHOICES[choice]}"
        f"[train]\nsteps = {STEPS}\nwarmup_steps = 1\nbatch = 2\nlearning_rate = 1e-2\n"
        f'precision = "{precision}"\n[data]\ncorpus = "t"\n'.encode()
    )


def trainer_of(config, backend):
    text = b"\0".join(f"record {n}: the answer is {n * n}.".encode() * 4 for n in range(30))
    return Trainer(config, Corpus({"t": HeldBytes(text)}, ByteTokenizer(), config), backend)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_model_trains_as_on_the_reference(card, choice):
    ours = trainer_of(config_of(choice, "bf16"), Cuda(card))
    exact = trainer_of(config_of(choice, "fp32"), kernels.backend("reference"))
    for _ in range(STEPS):
        found, expected = ours.step(), exact.step()
        assert abs(found.loss / expected.loss - 1) < 1e-2
        assert abs(found.grad_norm / expected.grad_norm - 1) < 5e-2
    assert abs(ours.evaluate().bits_per_byte / exact.evaluate().bits_per_byte - 1) < 1e-2


def test_two_runs_give_equal_bits_and_a_recorded_step_those_of_one_that_is_not(card):
    class Unrecorded(Cuda):
        def repeat(self, key, run):
            del key
            run()

    finals = []
    for backend in (Cuda, Cuda, Unrecorded):
        trainer = trainer_of(config_of("gpt2", "bf16"), backend(card))
        for _ in range(STEPS):
            trainer.step()
        finals.append(np.asarray(trainer.model.parameters.flat).tobytes())
    assert finals[0] == finals[1] == finals[2]


def test_a_step_takes_no_memory_after_the_first(card):
    trainer = trainer_of(config_of("gpt2", "bf16"), Cuda(card))
    trainer.step()
    taken = card.free_bytes()
    for _ in range(STEPS - 1):
        trainer.step()
    assert card.free_bytes() == taken


def test_what_is_not_on_the_device_or_of_another_shape_is_refused(card):
    cuda = Cuda(card)
    x, out = cuda.zeros((3, 8), np.float32), cuda.zeros((3, 9), np.float32)
    with pytest.raises(ArrayRefused, match="on the device, found ndarray"):
        cuda.gelu_forward(out, x=np.zeros((3, 8), np.float32))
    with pytest.raises(ArrayRefused, match=r"rows \(3, 8\)"):
        cuda.gelu_forward(out, x=x)
    double = cuda.zeros((3, 9), np.float64)
    with pytest.raises(ArrayRefused, match="float32 or bf16, found float64"):
        cuda.gelu_forward(double, x=double)


def test_sampling_says_which_backend_to_take(card):
    with pytest.raises(BackendMissing, match="sample with the backend 'cpu'"):
        Cuda(card).decoder(None, None, None)
