"""The CPU backend in each instruction set that this processor has, beside the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cpu import library
from kernels.cpu.ops import Cpu
from kernels.errors import BackendMissing
from kernels.table import BFLOAT16


def offered() -> tuple[str, ...]:
    try:
        return library.instruction_sets()
    except BackendMissing:
        return ()


# Without the library the tests of its arithmetic skip aloud; what a user is told then is tested all the same.
ISAS = offered() or (
    pytest.param(
        None, marks=pytest.mark.skip(reason="the cpu backend is not built: no compiler at installation")
    ),
)


@pytest.fixture(params=ISAS)
def isa(request):
    return request.param


@pytest.fixture
def cpu(isa):
    return Cpu(threads=1, isa=isa)


def narrow(values: np.ndarray) -> np.ndarray:
    """Values as an array of bf16, rounded to nearest even; the inverse of `wide`."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype(np.uint16).view(BFLOAT16)


def wide(array: np.ndarray) -> np.ndarray:
    """float64 values of an array of float32 or bf16."""
    if array.dtype == BFLOAT16:
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float64)


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative distance ‖found - expected‖ / ‖expected‖; infinite when something is not finite."""
    distance = np.linalg.norm((wide(found) - expected).ravel()) / np.linalg.norm(expected.ravel())
    return float(distance) if np.isfinite(distance) else np.inf
