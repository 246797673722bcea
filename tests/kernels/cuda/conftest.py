"""The CUDA kernels on the CPU: every launch in two random orders of threads, which must give equal bits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.cuda.shim import library

SEEDS = (1, 2)  # orders of threads


def on_the_shim(how, **values):
    """Launch in the first order, then again on copies in each other one: the same bits must come out."""
    before = {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}
    library.launch(how, seed=SEEDS[0], **values)
    for seed in SEEDS[1:]:
        again = same_overlaps(values, before)
        library.launch(how, seed=seed, **again)
        for name in before:
            assert again[name].tobytes() == values[name].tobytes(), f"{how.kernel}: {name} hangs on the order"


def same_overlaps(values, before):
    """Copies of the arrays as they were; one array given under two names stays one."""
    made: dict[int, np.ndarray] = {}
    for name, array in before.items():
        made.setdefault(id(values[name]), array)
    return {
        name: made[id(value)] if isinstance(value, np.ndarray) else value for name, value in values.items()
    }


@pytest.fixture(scope="session")
def device():
    """`device(Launch, name=array or number, …)`: runs a kernel of kernels/cuda on the CPU."""
    if reason := library.missing():
        pytest.skip(reason)
    return on_the_shim
