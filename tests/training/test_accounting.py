"""Operations are counted as they are computed: a backend that writes down its calls has the same sums."""

from __future__ import annotations

import pytest

import kernels
from appliance.training.accounting import Operations, flops_per_step, operations_per_step, parameter_count
from appliance.training.config import parse_config
from appliance.training.layout import layout_of
from appliance.training.trainer import Trainer

CHOICES = {
    "gpt2": "",
    "llama": 'positions = "rotary"\nnorm = "rmsnorm"\nactivation = "swiglu"\ntied_head = false\n',
    "dropout": "dropout = 0.1\n",
}


class Counting:
    """The reference, with every matrix product and attention written down; results are the reference's."""

    LANES = 1

    def __init__(self):
        self.inner = kernels.backend("reference")
        self.products = Operations()
        self.attention = Operations()
        self.elements = {}

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if not name.endswith(("_forward", "_backward")):
            return found

        def counted(*results, **inputs):
            self.note(name, results, inputs)
            return found(*results, **inputs)

        return counted

    def note(self, name, results, inputs):
        if "linear" in name:
            (rows, width), outputs = inputs["x"].shape, inputs["weight"].shape[1]
            product, bias = 2 * rows * width * outputs, rows * outputs
            if name.endswith("forward"):
                self.products += Operations(product + bias * (inputs["bias"] is not None))
            else:
                self.products += Operations(0, product, product + bias * (results[2] is not None))
            for part, size in (("gelu", rows * outputs), ("residual", rows * outputs)):
                if part in name and name.endswith("forward"):
                    self.elements[part] = self.elements.get(part, 0) + size
        elif name.startswith("attention_"):
            B, T, triple = inputs["qkv"].shape
            product = 2 * B * triple // 3 * sum(range(1, T + 1))
            forward = name.endswith("forward")
            self.attention += Operations(2 * product) if forward else Operations(0, 4 * product, 0, product)
        elif name.endswith("_forward"):
            part = name.removesuffix("_forward")
            self.elements[part] = self.elements.get(part, 0) + results[0].size


@pytest.fixture(params=CHOICES, ids=str)
def config(request):
    text = (
        f"[model]\nlayers = 2\nwidth = 16\nheads = 2\ncontext = 16\n{CHOICES[request.param]}"
        '[train]\nsteps = 2\nwarmup_steps = 1\nbatch = 2\naccumulate = 3\n[data]\ncorpus = "t"\n'
    )
    return parse_config(text.encode())


def test_products_and_attention_of_a_step_are_those_that_the_backend_was_asked_for(config, corpus_of):
    counting = Counting()
    text = b"\0".join(f"record {n}: the answer is {n * n}.".encode() * 4 for n in range(30))
    Trainer(config, corpus_of([text], config), counting).step()
    counted = operations_per_step(config)
    assert counted["linear"] + counted["head"] == counting.products
    softmax = config.model.heads * config.model.layers * config.train.sequences * 16 * 17 // 2
    expected = counting.attention + Operations(5 * softmax, 4 * softmax, 0, 3 * softmax)
    assert counted["attention"] == expected
    norm, activation = config.model.norm, config.model.activation
    assert counted[norm].forward == {"layernorm": 7, "rmsnorm": 4}[norm] * counting.elements[norm]
    assert counted[activation].forward == {"gelu": 9, "swiglu": 5}[activation] * counting.elements[activation]
    assert counted["residual"].forward == counting.elements["residual"]
    if config.model.dropout:
        assert counted["dropout"].forward == counting.elements["dropout"]
    if config.model.positions == "rotary":
        assert counted["rotary"].forward == 3 * counting.elements["rotary"] * 2 // 3


def test_the_sum_of_a_step_is_the_sum_of_its_ops(config):
    assert flops_per_step(config) == sum(each.total for each in operations_per_step(config).values())


def test_parameters_are_those_of_the_layout(config):
    assert parameter_count(config.model) == layout_of(config.model).size
    assert operations_per_step(config)["optimizer"].forward == 17 * parameter_count(config.model)


def test_a_model_of_usual_size_comes_close_to_six_operations_a_weight_and_token():
    """The rule of thumb (Kaplan et al. 2020) leaves out attention and everything element by element."""
    config = parse_config(
        b"[model]\nlayers = 12\nwidth = 768\nheads = 12\n[train]\nbatch = 8\n[data]\ncorpus = 't'\n"
    )
    tokens = config.train.sequences * config.model.context
    assert flops_per_step(config) == pytest.approx(6 * parameter_count(config.model) * tokens, rel=0.07)
