"""The CUDA kernels on the CPU and, where CuPy is installed, the same tests on a card (`-m gpu`)."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from kernels.cuda.card import Card
from kernels.errors import BackendMissing
from tests.kernels.cuda.launching import built_cubins, on_a_device, on_the_shim
from tests.kernels.cuda.shim import library


@pytest.fixture(scope="session")
def shim():
    """The sources, compiled for the CPU."""
    if reason := library.missing():
        pytest.skip(reason)
    return library


@pytest.fixture(scope="session")
def card():
    """A card with the kernels that `make cubins` built."""
    try:
        opened = Card(built_cubins)
    except BackendMissing as missing:
        pytest.skip(f"no card: {missing}")
    except FileNotFoundError:
        pytest.skip("the cubins are not built: make cubins")
    yield opened
    opened.close()


PLACES = ["shim", *([pytest.param("card", marks=pytest.mark.gpu)] if find_spec("cupy") else [])]


@pytest.fixture(params=PLACES)
def device(request):
    """`device(Launch, name=array or number, …)`: runs a kernel of kernels/cuda, twice, for equal bits."""
    if request.param == "card":
        return on_a_device(request.getfixturevalue("card"))
    request.getfixturevalue("shim")
    return on_the_shim
