"""The shim tells the mistakes that it is there for: each of these kernels makes one."""

from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda.launches import Launch
from tests.kernels.cpu.conftest import narrow
from tests.kernels.cuda.shim import library

KERNELS = (
    *("divergent_barrier", "mixed_meeting", "missing_barrier", "order_of_addition", "unwritten", "copied"),
    *("crooked", "conflicting", "one_product", "last_block"),
)
POISON = np.frombuffer(b"\xa5" * 4, np.float32)[0]


@pytest.fixture
def run(shim):
    """`run(kernel, threads, *arguments, seed=…)`: one block of a faulty kernel; returns what it wrote."""
    built = library.build(library.HERE / "faulty.cu", KERNELS)

    def run(kernel, threads, *more, seed=1, shared=0, size=64, grid=(1, 1, 1)):
        out = np.full(size, np.nan, np.float32)
        arguments = [("p", out), *(("p" if isinstance(each, np.ndarray) else "i", each) for each in more)]
        library.call(built, Launch(kernel, grid, (threads, 1, 1), shared), seed, arguments)
        return out

    return run


def test_a_divergent_barrier_ends_with_a_fault_instead_of_hanging(run):
    with pytest.raises(
        library.ShimFault, match=r"block \(0, 0, 0\): 32 of 48 threads wait at a barrier, 16 for"
    ):
        run("divergent_barrier", 64)


def test_lanes_that_meet_for_different_things_are_told(run):
    with pytest.raises(library.ShimFault, match="lanes of one warp meet for different things"):
        run("mixed_meeting", 32)


def test_a_missing_barrier_shows_as_poison_or_as_other_bits(run):
    outcomes = [run("missing_barrier", 64, seed=seed) for seed in range(4)]
    assert any((outcome == POISON).any() for outcome in outcomes)
    assert len({outcome.tobytes() for outcome in outcomes}) > 1


def test_an_order_of_addition_shows_as_other_bits(run):
    assert len({run("order_of_addition", 64, seed=seed).tobytes() for seed in range(8)}) > 1


def test_an_order_of_blocks_shows_as_other_bits(run):
    last = {run("last_block", 32, seed=seed, grid=(2, 3, 2))[0] for seed in range(40)}
    assert last <= {x + 10 * y + 100 * z for x in range(2) for y in range(3) for z in range(2)}
    assert len(last) > 6


def test_shared_memory_that_nobody_wrote_is_poison(run):
    assert (run("unwritten", 32)[:32] == POISON).all()


def test_a_copy_comes_when_it_is_waited_for_and_not_before(run):
    values = np.arange(32, dtype=np.float32)
    expected = np.where(values < 28, values, 0)  # the last four are not there: zeros
    np.testing.assert_array_equal(run("copied", 32, values, 0, shared=128)[:32], expected)
    assert (run("copied", 32, values, 1, shared=128)[:32] == POISON).all()


def test_a_crooked_address_is_told(run):
    with pytest.raises(library.ShimFault, match="ldmatrix of an address not aligned to 16"):
        run("crooked", 32, shared=4096)


def test_a_bank_conflict_is_told(run):
    with pytest.raises(library.ShimFault, match="eight rows of a tile meet in fewer than all banks"):
        run("conflicting", 32, shared=4096)


def test_a_product_of_tiles_is_that_of_the_matrices(run):
    draw = np.random.default_rng(3)
    a, b = (draw.integers(-8, 9, (rows, 16)).astype(np.float32) for rows in (16, 8))
    out = run("one_product", 32, narrow(a), narrow(b), size=128).reshape(16, 8)
    np.testing.assert_array_equal(out, a @ b.T)


@pytest.mark.parametrize("threads", [0, 31, 48, 1056])
def test_a_block_that_is_no_whole_number_of_warps_is_refused(run, threads):
    with pytest.raises(library.ShimFault, match="a block is 32 to 1024 threads, in whole warps"):
        run("unwritten", threads)
