"""The global norm of the CUDA sources: summed in float64, whatever is not finite told."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda import launches


def length_of(device, values):
    partial, result = np.full(launches.square_parts(values.size), np.nan), np.full(1, np.nan)
    first, second = launches.global_norm(values.size)
    device(first, partial=partial, x=values, count=values.size)
    device(second, result=result, partial=partial, parts=partial.size)
    return result[0]


@pytest.mark.parametrize("count", [1, 31, 2048, 70_001])
def test_it_is_summed_in_float64(device, count):
    values = np.random.default_rng(1).standard_normal(count).astype(np.float32)
    assert abs(length_of(device, values) / np.linalg.norm(values.astype(np.float64)) - 1) < 1e-12


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_number_that_is_not_finite_reaches_it(device, broken):
    values = np.ones(5_000, np.float32)
    values[4_999] = broken
    assert not np.isfinite(length_of(device, values))
