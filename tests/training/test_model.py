"""The decoder: its whole gradient against finite differences, its causality, its names and shapes."""

import dataclasses
import math

import numpy as np
import pytest

import kernels
from appliance.errors import ContentRefused
from appliance.training import safetensors
from appliance.training.architecture import architecture_json
from appliance.training.config import ModelConfig
from appliance.training.layout import Buffer, layout_of
from appliance.training.model import GPT
from appliance.training.tensorfile import TensorFile
from tests.training.memory import InMemory

SMALL = ModelConfig(layers=2, width=8, heads=2, context=6)


def built(config=SMALL, dtype=np.float64, seed=3):
    model = GPT(config, kernels.backend(), dtype)
    model.initialise(seed)
    rng = np.random.default_rng(0)  # biases of zero and weights of one would hide a missing term
    model.parameters.flat += rng.standard_normal(model.layout.size).astype(dtype) * 0.1
    return model


def tokens(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape)


def gradient(model, x, y):
    slopes = Buffer(model.layout, kernels.backend(), model.dtype)
    loss = model.forward_backward(model.arena(*x.shape), slopes, x, y)
    return loss, slopes


def test_the_whole_gradient_equals_finite_differences_in_float64():
    model, x, y = built(), tokens((2, 5)), tokens((2, 5), seed=1)
    _, slopes = gradient(model, x, y)
    arena = model.arena(2, 5)
    rng = np.random.default_rng(1)
    for name, view in model.parameters.views.items():
        used = {"wte.weight": np.unique(x), "wpe.weight": np.arange(5)}.get(name, np.arange(view.shape[0]))
        for _ in range(4):
            place = (rng.choice(used), *(rng.integers(0, n) for n in view.shape[1:]))
            kept, losses = view[place], []
            for shift in (1e-5, -1e-5):
                view[place] = kept + shift
                losses.append(model.losses(arena, x, y).mean())
            view[place] = kept
            numeric = (losses[0] - losses[1]) / 2e-5
            assert math.isclose(slopes.views[name][place], numeric, rel_tol=1e-5, abs_tol=1e-9), (name, place)


def test_the_float32_gradient_is_the_float64_one_within_rounding():
    wide, narrow = built(dtype=np.float64), built(dtype=np.float32)
    narrow.parameters.flat[:] = wide.parameters.flat
    x, y = tokens((2, 6)), tokens((2, 6), seed=1)
    expected, found = gradient(wide, x, y)[1].flat, gradient(narrow, x, y)[1].flat
    # 24 bits are 6e-8; a few dozen operations deep that is some 1e-6 of the gradient's length.
    assert np.linalg.norm(found - expected) < 5e-6 * np.linalg.norm(expected)


def plain_forward(p, config, x):
    """The published formulas, one sequence at a time, without any of our ops."""

    def norm(h, name):
        centred = h - h.mean(-1, keepdims=True)
        return centred / np.sqrt(h.var(-1, keepdims=True) + 1e-5) * p[name + ".weight"] + p[name + ".bias"]

    def linear(h, name):
        return h @ p[name + ".weight"] + p[name + ".bias"]

    h = p["wte.weight"][x] + p["wpe.weight"][: len(x)]
    for layer in range(config.layers):
        at = f"h.{layer}."
        q, k, v = np.split(linear(norm(h, at + "ln_1"), at + "attn.c_attn"), 3, axis=-1)
        outs = []
        for head in np.split(np.arange(config.width), config.heads):
            scores = q[:, head] @ k[:, head].T / math.sqrt(len(head))
            scores[np.triu_indices(len(x), 1)] = -np.inf
            chances = np.exp(scores)
            outs.append(chances / chances.sum(-1, keepdims=True) @ v[:, head])
        h += linear(np.concatenate(outs, axis=-1), at + "attn.c_proj")
        u = linear(norm(h, at + "ln_2"), at + "mlp.c_fc")
        u = 0.5 * u * (1 + np.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
        h += linear(u, at + "mlp.c_proj")
    return norm(h, "ln_f") @ p["wte.weight"].T


def test_the_forward_pass_equals_a_plain_transcription_of_the_formulas():
    model, x = built(), tokens((2, 6))
    logits = model.forward(model.arena(2, 6), x).reshape(2, 6, 256)
    for row, sequence in enumerate(x):
        expected = plain_forward(model.parameters.views, SMALL, sequence)
        np.testing.assert_allclose(logits[row], expected, rtol=1e-10, atol=1e-12)


def test_gradients_of_two_batches_add_up():
    model, x, y = built(), tokens((4, 6)), tokens((4, 6), seed=1)
    _, whole = gradient(model, x, y)
    sums = Buffer(model.layout, kernels.backend(), np.float64)
    for part in (slice(0, 2), slice(2, 4)):
        model.forward_backward(model.arena(2, 6), sums, x[part], y[part])
    np.testing.assert_allclose(sums.flat / 2, whole.flat, rtol=1e-9, atol=1e-12)


def test_a_prediction_never_depends_on_later_tokens():
    model, x = built(), tokens((1, 6))
    before = model.forward(model.arena(1, 6), x).copy()
    x[0, 4:] = 255 - x[0, 4:]
    after = model.forward(model.arena(1, 6), x)
    assert (before[:4] == after[:4]).all()
    assert (before[4:] != after[4:]).any()


def test_fresh_weights_predict_about_uniformly_and_follow_the_seed():
    models = []
    for seed in (1, 1, 2):
        model = GPT(SMALL, kernels.backend())
        model.initialise(seed)
        models.append(model)
    losses = models[0].losses(models[0].arena(4, 6), tokens((4, 6)), tokens((4, 6), seed=1))
    assert abs(float(losses.mean()) - math.log(256)) < 0.1
    assert (models[0].parameters.flat == models[1].parameters.flat).all()
    assert (models[0].parameters.flat != models[2].parameters.flat).any()


def test_names_and_shapes_are_gpt2s_and_matrices_come_first():
    layout = layout_of(SMALL)
    shapes = {slot.name: slot.shape for slot in layout.slots}
    assert shapes["h.1.attn.c_attn.weight"] == (8, 24)
    assert shapes["h.0.mlp.c_proj.weight"] == (32, 8)
    assert shapes["wte.weight"] == (256, 8)
    assert len(shapes) == 4 + 12 * SMALL.layers
    ends = [slot.stop for slot in layout.slots if len(slot.shape) == 2]
    assert max(ends) == layout.matrices == sum(math.prod(s) for s in shapes.values() if len(s) == 2)
    assert layout.size == layout.slots[-1].stop
    assert b'"n_layer": 2' in architecture_json(SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("ln_f.bias"), "tensor 'ln_f.bias' is missing"),
        (lambda w: w.update(extra=np.zeros(1)), "tensor 'extra' is unknown"),
        (
            lambda w: w.update({"ln_f.bias": np.zeros(9, np.float32)}),
            r"expected float32 \(8,\), found float32 \(9,\)",
        ),
        (lambda w: w.update({"ln_f.bias": np.zeros(8)}), r"found float64 \(8,\)"),
        (
            lambda w: w.update({"ln_f.bias": np.full(8, np.nan, np.float32)}),
            "expected finite numbers, found NaN",
        ),
        (lambda w: w.update({"ln_f.bias": np.full(8, -np.inf, np.float32)}), "NaN or infinity"),
    ],
)
def test_weights_of_another_model_are_refused(change, message):
    model = GPT(SMALL, kernels.backend())
    weights = {name: np.ones_like(view) for name, view in model.parameters.views.items()}
    model.load(weights)
    assert (model.parameters.flat == 1).all()
    change(weights)
    with pytest.raises(ContentRefused, match=message):
        model.load(weights)
    with pytest.raises(ContentRefused, match=message):
        model.open(sealed(weights))


def sealed(weights):
    file = InMemory()
    safetensors.write(file, weights, {})
    return TensorFile(file)


def test_sealed_weights_are_opened_straight_into_the_parameters():
    first, second = (GPT(SMALL, kernels.backend()) for _ in range(2))
    first.initialise(seed=3)
    second.open(sealed(first.parameters.views))
    assert second.parameters.flat.tobytes() == first.parameters.flat.tobytes()


def test_weights_of_a_type_that_numpy_lacks_are_refused():
    model = GPT(SMALL, kernels.backend())
    file = sealed(model.parameters.views)
    info = file.header.tensors["wte.weight"]._replace(dtype="BF16")
    file.header = dataclasses.replace(file.header, tensors={**file.header.tensors, "wte.weight": info})
    with pytest.raises(ContentRefused, match=r"tensor 'wte\.weight': expected a type NumPy has, found BF16"):
        model.open(file)
