"""A launch carried to a device and back gives what the shim gives where the arrays lie."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda import launches
from tests.kernels.cpu.conftest import narrow
from tests.kernels.cuda import launching
from tests.kernels.cuda.shim.device import ShimDevice


def arguments():
    values = np.random.default_rng(1).standard_normal((3, 35)).astype(np.float32)
    place = np.array([1, 2, 3, 4], np.uint32)
    return {"x": narrow(values), "place": place, "stream": 5, "below": 2**31, "scale": 2.0, "N": 3, "C": 35}


def test_a_carried_launch_gives_what_one_in_place_gives(shim):
    how, device = launches.dropout(half=True, N=3, C=35), ShimDevice()
    here, there = arguments(), arguments()
    launching.on_the_shim(how, out=here["x"], **here)
    launching.on_a_device(device)(how, out=there["x"], **there)
    assert there["x"].tobytes() == here["x"].tobytes() != arguments()["x"].tobytes()
    assert device.free_bytes() == device.size, "everything was given back"


def test_a_null_pointer_stays_one(shim):
    x, branch = np.ones((2, 8), np.float32), np.ones((2, 8), np.float32)
    how = launches.residual(half=False, count=16)
    launching.on_a_device(ShimDevice())(how, out=x, x=x, branch=branch, bias=None, count=16, C=8)
    assert (x == 2).all()


def test_two_runs_that_differ_are_told(shim):
    outcomes = iter([1.0, 2.0])

    def run(given):
        given["out"][...] = next(outcomes)

    how = launches.residual(half=False, count=4)
    with pytest.raises(AssertionError, match="residual_fp32: out differs between two runs"):
        launching.twice(how, {"out": np.zeros(4, np.float32)}, [run, run])


@pytest.mark.gpu
def test_every_kernel_loads_on_a_card(card):
    """Skips aloud where no card is; with CuPy installed, every test of a kernel then runs on the card too."""
    assert card.free_bytes() > 0
