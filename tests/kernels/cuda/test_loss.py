"""Softmax and cross entropy of the CUDA sources, apart and in one launch."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import reference
from kernels.cuda import launches
from tests.kernels.cpu.conftest import off, wide
from tests.kernels.cpu.test_ops import TOLERANCE, Draw


@pytest.fixture(params=["fp32", "bf16"])
def draw(request):
    return Draw(request.param)


def empty():
    return np.full(5, np.nan, np.float32), np.full(5, np.nan, np.float32)


@pytest.mark.parametrize("vocabulary", [2, 5, 256, 2055])
def test_cross_entropy_and_its_gradient(device, draw, vocabulary):
    logits, targets = draw.activation(5, vocabulary), draw.random.integers(0, vocabulary, 5)
    (losses, lse), exact, exact_lse, slope = empty(), np.empty(5), np.empty(5), np.empty((5, vocabulary))
    reference.softmax_cross_entropy_forward(exact, exact_lse, logits=wide(logits), targets=targets)
    rest = {"logits": wide(logits), "lse": exact_lse, "targets": targets, "scale": 0.25}
    reference.softmax_cross_entropy_backward(slope, **rest)
    given = {"logits": logits, "targets": targets, "V": vocabulary}
    device(launches.softmax_cross_entropy("forward", half=draw.half, N=5), losses=losses, lse=lse, **given)
    assert off(losses, exact) < 2e-6
    assert off(lse, exact_lse) < 1e-6
    apart, limit = draw.empty(5, vocabulary), TOLERANCE["bf16" if draw.half else "fp32"]
    how = launches.softmax_cross_entropy("backward", half=draw.half, N=5)
    device(how, dlogits=apart, lse=lse, scale=0.25, **given)
    assert off(apart, slope) < limit
    again, again_lse = empty()
    how = launches.softmax_cross_entropy("both", half=draw.half, N=5)
    device(how, losses=again, lse=again_lse, scale=0.25, **given)
    assert (again == losses).all()
    assert (again_lse == lse).all()
    assert logits.tobytes() == apart.tobytes()


def test_cross_entropy_of_enormous_logits_is_finite(device):
    logits = np.array([[3e38, 0, 0], [-3e38, -3e38, 0], [-3e38, 3e38, 0]], np.float32)
    losses, lse = np.empty(3, np.float32), np.empty(3, np.float32)
    how = launches.softmax_cross_entropy("forward", half=False, N=3)
    device(how, losses=losses, lse=lse, logits=logits, targets=np.array([0, 2, 1]), V=3)
    np.testing.assert_array_equal(losses, [0, 0, 0])


def test_what_is_not_a_number_reaches_the_loss(device, draw):
    logits = draw.activation(5, 300)
    logits[3, 299] = draw.empty(1)[0]
    losses, lse = empty()
    how = launches.softmax_cross_entropy("forward", half=draw.half, N=5)
    device(how, losses=losses, lse=lse, logits=logits, targets=np.zeros(5, np.int64), V=300)
    assert np.isnan(losses).tolist() == [False, False, False, True, False]
