"""The yardstick is a whole number above zero, measured through the table of ops and within its budget."""

import numpy as np
import pytest

import kernels
from appliance.training.peak import SIZE, measured_peak
from kernels.errors import BackendMissing


class Slow:
    """A backend whose product takes as long as the test says."""

    LANES = 3

    def __init__(self):
        self.calls = 0

    def zeros(self, shape, dtype):
        return np.zeros((1,) * len(shape), dtype)

    def linear_forward(self, *_, **operands):
        assert operands["bias"] is None
        self.calls += 1


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (2, 2), (8, 3)])
def test_the_peak_is_the_work_of_all_threads_by_the_shortest_time(threads, workers):
    times = iter([0.0, 0.0, 0.5, 0.5, 0.5, 0.6, 0.7])  # began; a round of 0.5 s; asked whether to go on: no
    backend = Slow()
    found = measured_peak(backend, "fp32", threads, clock=lambda: next(times))
    assert found == 2 * SIZE**3 * workers / 0.5
    assert backend.calls == workers


@pytest.mark.parametrize("name", kernels.NAMES)
def test_a_real_backend_has_a_peak(name):
    try:
        backend = kernels.backend(name)
    except BackendMissing as missing:
        pytest.skip(str(missing))
    assert measured_peak(backend, backend.PRECISIONS[-1], 1) > 1e8
