"""A decoder in C++ comes to the logits of the float64 reference, whatever the instruction set and threads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kernels import reference
from kernels.cpu.ops import Cpu
from kernels.decode import BlockWeights, DecoderWeights, cache_shapes
from kernels.errors import ArrayRefused

T, V = 21, 37
SIZES = [(8, 2, 12), (48, 3, 80), (400, 4, 520)]  # the last is large enough to be shared by threads


def made(C, H, F, *, rotary, rms, swiglu, dtype):
    rng = np.random.default_rng(3)

    def draw(*shape, spread=0.3, mean=0.0):
        return (rng.normal(mean, spread, shape)).astype(np.float32).astype(dtype)

    def bias():
        return None if rms else draw(C)

    def block():
        P = 2 * F if swiglu else F
        narrow, deep = C**-0.5, F**-0.5
        return BlockWeights(
            norm_1_weight=draw(C, mean=1.0),
            norm_1_bias=bias(),
            qkv_weight=draw(C, 3 * C, spread=narrow),
            qkv_bias=draw(3 * C),
            out_weight=draw(C, C, spread=narrow),
            out_bias=draw(C),
            norm_2_weight=draw(C, mean=1.0),
            norm_2_bias=bias(),
            up_weight=draw(C, P, spread=narrow),
            up_bias=draw(P),
            down_weight=draw(F, C, spread=deep),
            down_bias=draw(C),
        )

    angles = rng.uniform(0, 6, (T, C // H // 2 if rotary else 0))
    return DecoderWeights(
        table=draw(V, C),
        positions=None if rotary else draw(T, C),
        cosines=np.cos(angles).astype(np.float32).astype(dtype),
        sines=np.sin(angles).astype(np.float32).astype(dtype),
        blocks=(block(), block()),
        norm_weight=draw(C, mean=1.0),
        norm_bias=bias(),
        head=draw(V, C, spread=C**-0.5),
        heads=H,
        swiglu=swiglu,
    )


def logits_of(backend, weights, tokens, dtype):
    keys, values = (np.zeros(shape, dtype) for shape in cache_shapes(weights, T))
    step, found = backend.decoder(weights, keys, values), np.zeros((len(tokens), V), dtype)
    for position, token in enumerate(tokens):
        step(found[position], int(token), position)
    return found


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "choice",
    [
        {"rotary": False, "rms": False, "swiglu": False},
        {"rotary": True, "rms": True, "swiglu": True},
        {"rotary": True, "rms": False, "swiglu": False},
    ],
    ids=["gpt2", "llama", "rotary"],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_those_of_the_reference(isa, size, choice, threads):
    tokens = np.random.default_rng(4).integers(0, V, T)
    expected = logits_of(reference, made(*size, **choice, dtype=np.float64), tokens, np.float64)
    weights = made(*size, **choice, dtype=np.float32)
    threads = min(threads, Cpu(isa=isa).engine.threads)
    backend = Cpu(threads=threads, isa=isa)
    found = logits_of(backend, weights, tokens, np.float32)
    scale = np.abs(expected).max()
    # A logit is a sum of some hundred products behind two blocks: some units of 2^-24 times their number.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * scale)
    np.testing.assert_array_equal(found, logits_of(backend, weights, tokens, np.float32))
    grown = backend.engine.growths
    logits_of(backend, weights, tokens, np.float32)
    assert backend.engine.growths == grown


def test_bits_do_not_depend_on_threads(isa):
    tokens = np.random.default_rng(5).integers(0, V, T)
    weights = made(*SIZES[-1], rotary=False, rms=False, swiglu=False, dtype=np.float32)
    most = Cpu(isa=isa).engine.threads
    one, all_of_them = (logits_of(Cpu(threads=n, isa=isa), weights, tokens, np.float32) for n in (1, most))
    np.testing.assert_array_equal(one, all_of_them)


@pytest.mark.parametrize(("token", "position"), [(-1, 0), (V, 0), (0, -1), (0, T)])
def test_a_token_or_position_outside_is_refused_and_nothing_is_read(cpu, token, position):
    weights = made(*SIZES[0], rotary=False, rms=False, swiglu=False, dtype=np.float32)
    keys, values = (np.zeros(shape, np.float32) for shape in cache_shapes(weights, T))
    step = cpu.decoder(weights, keys, values)
    with pytest.raises(ArrayRefused, match="expected a token below 37 at a position below 21"):
        step(np.zeros(V, np.float32), token, position)


@pytest.mark.parametrize("name", ["table", "head", "positions", "norm_weight"])
def test_an_array_of_another_shape_is_refused(cpu, name):
    weights = made(*SIZES[0], rotary=False, rms=False, swiglu=False, dtype=np.float32)
    odd = dataclasses.replace(weights, **{name: getattr(weights, name)[..., :-1]})
    if name == "table":
        odd = dataclasses.replace(weights, table=weights.table.astype(np.float64))
    keys, values = (np.zeros(shape, np.float32) for shape in cache_shapes(weights, T))
    with pytest.raises(ArrayRefused):
        cpu.decoder(odd, keys, values)
