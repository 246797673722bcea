"""The decoder's other choices: each gradient against finite differences, each forward against its formula."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest

import kernels
from appliance.training.architecture import architecture_json
from appliance.training.config import ModelConfig
from appliance.training.layout import Buffer, hidden_width, layout_of
from appliance.training.model import GPT, Place

PLAIN = ModelConfig(layers=2, width=8, heads=2, context=6, vocabulary=11)
MODERN = dataclasses.replace(PLAIN, positions="rotary", norm="rmsnorm", activation="swiglu", tied_head=False)
VARIANTS = [
    dataclasses.replace(PLAIN, positions="rotary"),
    dataclasses.replace(PLAIN, norm="rmsnorm"),
    dataclasses.replace(PLAIN, activation="swiglu"),
    dataclasses.replace(PLAIN, tied_head=False),
    dataclasses.replace(PLAIN, dropout=0.3),
    dataclasses.replace(MODERN, dropout=0.2),
]
PLACE = Place(seed=3, step=5, first_row=7)


def built(config, seed=3):
    model = GPT(config, kernels.backend(), np.float64)
    model.initialise(seed)
    model.parameters.flat += np.random.default_rng(0).standard_normal(model.layout.size) * 0.1
    return model


def tokens(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 11, shape)


def choices(config):
    base = dataclasses.asdict(PLAIN)
    return "-".join(str(v) for k, v in dataclasses.asdict(config).items() if v != base[k])


@pytest.mark.parametrize("config", VARIANTS, ids=choices)
def test_the_whole_gradient_equals_finite_differences(config):
    model, x, y = built(config), tokens((2, 5)), tokens((2, 5), seed=1)
    arena, slopes = model.arena(2, 5), Buffer(model.layout, kernels.backend(), np.float64)
    model.forward_backward(arena, slopes, x, y, place=PLACE)
    rng = np.random.default_rng(1)
    for name, view in model.parameters.views.items():
        used = {"wte.weight": np.unique(x), "wpe.weight": np.arange(5)}.get(name, np.arange(view.shape[0]))
        for _ in range(4):
            place = (rng.choice(used), *(rng.integers(0, n) for n in view.shape[1:]))
            kept, losses = view[place], []
            for shift in (1e-5, -1e-5):
                view[place] = kept + shift
                losses.append(model.losses(arena, x, y, PLACE).mean())
            view[place] = kept
            numeric = (losses[0] - losses[1]) / 2e-5
            assert math.isclose(slopes.views[name][place], numeric, rel_tol=1e-5, abs_tol=1e-9), (name, place)


def plain_forward(p, config, x):
    """RMS norm, rotary positions as complex numbers, SwiGLU and a head of its own, as published."""

    def norm(h, name):
        return h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-5) * p[name + ".weight"]

    def linear(h, name):
        return h @ p[name + ".weight"] + p[name + ".bias"]

    def turn(rows):
        half = rows.shape[1] // 2
        angles = np.outer(np.arange(len(rows)), 10000.0 ** (-2 * np.arange(half) / rows.shape[1]))
        planes = (rows[:, :half] + 1j * rows[:, half:]) * np.exp(1j * angles)
        return np.concatenate([planes.real, planes.imag], axis=1)

    h = p["wte.weight"][x]
    for layer in range(config.layers):
        at = f"h.{layer}."
        q, k, v = np.split(linear(norm(h, at + "ln_1"), at + "attn.c_attn"), 3, axis=-1)
        outs = []
        for head in np.split(np.arange(config.width), config.heads):
            scores = turn(q[:, head]) @ turn(k[:, head]).T / math.sqrt(len(head))
            scores[np.triu_indices(len(x), 1)] = -np.inf
            chances = np.exp(scores)
            outs.append(chances / chances.sum(-1, keepdims=True) @ v[:, head])
        h = h + linear(np.concatenate(outs, axis=-1), at + "attn.c_proj")
        gate, up = np.split(linear(norm(h, at + "ln_2"), at + "mlp.c_fc"), 2, axis=-1)
        h = h + linear(gate / (1 + np.exp(-gate)) * up, at + "mlp.c_proj")
    return norm(h, "ln_f") @ p["lm_head.weight"].T


def test_the_forward_pass_equals_a_plain_transcription_of_the_formulas():
    model, x = built(MODERN), tokens((2, 6))
    logits = model.forward(model.arena(2, 6), x).reshape(2, 6, 11)
    for row, sequence in enumerate(x):
        expected = plain_forward(model.parameters.views, MODERN, sequence)
        np.testing.assert_allclose(logits[row], expected, rtol=1e-10, atol=1e-12)


def test_dropping_is_for_training_and_follows_its_place():
    model, x, y = built(dataclasses.replace(PLAIN, dropout=0.5)), tokens((2, 6)), tokens((2, 6), seed=1)
    arena = model.arena(2, 6)
    whole = built(PLAIN).losses(built(PLAIN).arena(2, 6), x, y)
    assert (model.losses(arena, x, y) == whole).all()
    masked = model.losses(arena, x, y, PLACE).copy()
    assert (masked != whole).any()
    assert (model.losses(arena, x, y, PLACE) == masked).all()
    for other in (Place(4, 5, 7), Place(3, 6, 7), Place(3, 5, 8)):
        assert (model.losses(arena, x, y, other) != masked).any()


def test_every_combination_has_exactly_the_tensors_it_uses():
    for positions, norm, activation, tied in itertools.product(
        ("learned", "rotary"), ("layernorm", "rmsnorm"), ("gelu", "swiglu"), (True, False)
    ):
        config = ModelConfig(2, 48, 4, 6, 300, positions, norm, activation, tied)
        shapes = {slot.name: slot.shape for slot in layout_of(config).slots}
        assert ("wpe.weight" in shapes) == (positions == "learned")
        assert ("ln_f.bias" in shapes) == ("h.1.ln_2.bias" in shapes) == (norm == "layernorm")
        assert (shapes.get("lm_head.weight") == (300, 48)) == (not tied)
        assert shapes["h.0.mlp.c_fc.weight"] == ((48, 192) if activation == "gelu" else (48, 256))
        assert shapes["h.0.mlp.c_proj.weight"] == (hidden_width(config), 48)
        GPT(config, kernels.backend()).initialise(1)


def test_only_gpt2s_choices_are_called_gpt2():
    assert json.loads(architecture_json(PLAIN))["model_type"] == "gpt2"
    assert json.loads(architecture_json(PLAIN))["vocab_size"] == 11
    said = json.loads(architecture_json(MODERN))
    assert said["model_type"] == "appliance-decoder"
    assert (said["positions"], said["norm"], said["activation_function"]) == ("rotary", "rmsnorm", "swiglu")
    assert (said["tie_word_embeddings"], said["n_inner"], said["rope_theta"]) == (False, 32, 10000.0)
    assert "layer_norm_epsilon" not in said
    kinds = [json.loads(architecture_json(variant))["model_type"] for variant in VARIANTS]
    assert kinds == ["appliance-decoder"] * 3 + ["gpt2", "gpt2", "appliance-decoder"]
