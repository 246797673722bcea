"""The engine around the ops: what is chosen, what is refused, and that bits and memory stay as they were."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import kernels
from kernels.cpu import library
from kernels.cpu.ops import Cpu
from kernels.errors import ArrayRefused, BackendMissing, ThreadsRefused
from kernels.table import BFLOAT16
from tests.kernels.cpu.conftest import narrow, wide

CORES = len(os.sched_getaffinity(0))


def test_the_best_instruction_set_is_taken_and_any_other_can_be_had(isa):
    assert Cpu().engine.isa == library.instruction_sets()[0]
    assert f"cpu/{isa}" == Cpu(isa=isa, threads=1).NAME
    assert f"cpu/{isa}" == kernels.backend(f"cpu/{isa}").NAME
    assert kernels.backend("cpu").engine.threads == CORES
    assert kernels.fastest(threads=1)[0].NAME == kernels.backend("cpu").NAME


def test_every_machine_has_the_portable_path(isa):
    assert library.instruction_sets()[-1] == "portable"


def test_an_instruction_set_that_this_processor_lacks_is_refused(isa):
    with pytest.raises(BackendMissing, match=r"expected an instruction set among .*portable.*found 'avx9'"):
        Cpu(isa="avx9")


@pytest.mark.parametrize("threads", [0, -1, CORES + 1, 10**6])
def test_no_threads_and_more_than_there_are_cores_are_refused(isa, threads):
    with pytest.raises(ThreadsRefused, match=f"expected 1 to {CORES} threads.*found {threads}; lower"):
        kernels.backend("cpu", threads=threads)


def test_a_library_that_was_not_built_is_said_with_what_it_costs(monkeypatch, tmp_path):
    monkeypatch.setenv(library.PATH_VARIABLE, str(tmp_path / "none.so"))
    library.load.cache_clear()
    with pytest.raises(
        BackendMissing, match=r"not built: expected .*none.so; install a C\+\+ compiler.*slower"
    ):
        kernels.backend("cpu")
    ops, why = kernels.fastest()
    assert ops.NAME == "reference"
    assert "install a C++ compiler (g++)" in why


def test_a_library_that_does_not_load_is_said(monkeypatch, tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF, or so it claims")
    monkeypatch.setenv(library.PATH_VARIABLE, str(broken))
    library.load.cache_clear()
    with pytest.raises(BackendMissing, match=r"does not load: .*broken\.so"):
        kernels.backend("cpu")


@pytest.fixture(autouse=True)
def _fresh_library():
    yield
    library.load.cache_clear()


WRONG = {
    "another shape": np.zeros((4, 3), np.float32),
    "float64": np.zeros((3, 4)),
    "integers": np.zeros((3, 4), np.int32),
    "not contiguous": np.zeros((3, 8), np.float32)[:, ::2],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_array_that_does_not_fit_is_refused_before_anything_is_written(cpu, wrong):
    x, weight, out = np.ones((3, 5), np.float32), np.ones((5, 4), np.float32), np.zeros((3, 4), np.float32)
    with pytest.raises(ArrayRefused, match="cpu backend: expected"):
        cpu.linear_forward(WRONG[wrong], x=x, weight=weight, bias=None)
    with pytest.raises(ArrayRefused, match="cpu backend: expected"):
        cpu.residual_forward(out, x=WRONG[wrong], branch=out)
    with pytest.raises(ArrayRefused, match="cpu backend: expected"):
        cpu.linear_backward(
            np.zeros_like(x), weight, None, dout=out, x=x, weight=np.ones((4, 5), np.float32).T
        )
    with pytest.raises(ArrayRefused, match="divisible by 3 · 4 heads"):
        cpu.attention_forward(x, x, qkv=np.zeros((1, 2, 18), np.float32), heads=4)
    assert not out.any()


def a_step(cpu: Cpu, *, half: bool) -> list[np.ndarray]:
    """Every op whose work is shared among threads, on shapes of several blocks."""
    random = np.random.default_rng(3)

    def draw(*shape):
        values = random.standard_normal(shape).astype(np.float32)
        return narrow(values) if half else values

    def stream(*shape):
        return random.standard_normal(shape).astype(np.float32)

    N, C, V = 4 * 97, 72, 301
    x, wide_x, dout, weight = stream(N, C), draw(N, C), draw(N, V), stream(C, V)
    out, dx, losses, lse = draw(N, V), draw(N, C), stream(N), stream(N)
    dweight, dbias, dscale = np.zeros_like(weight), np.zeros(V, np.float32), np.zeros((2, C), np.float32)
    cpu.linear_forward(out, x=wide_x, weight=weight, bias=stream(V))
    cpu.linear_backward(dx, dweight, dbias, dout=dout, x=wide_x, weight=weight)
    cpu.softmax_cross_entropy_forward(losses, lse, logits=out, targets=random.integers(0, V, N))
    mean, rstd, normal, dnormal = stream(N), stream(N), draw(N, C), stream(N, C)
    cpu.layernorm_forward(normal, mean, rstd, x=x, weight=stream(C), bias=stream(C))
    cpu.layernorm_backward(dnormal, *dscale, dout=dx, x=x, weight=stream(C), mean=mean, rstd=rstd)
    qkv, attended, scores = draw(4, 97, 3 * C), draw(4, 97, C), stream(4, 2, 97)
    dqkv, table = draw(4, 97, 3 * C), np.zeros((9, C), np.float32)
    cpu.attention_forward(attended, scores, qkv=qkv, heads=2)
    cpu.attention_backward(dqkv, dout=dx.reshape(4, 97, C), out=attended, lse=scores, qkv=qkv, heads=2)
    cpu.embedding_backward(table, None, dout=x.reshape(4, 97, C), tokens=random.integers(0, 9, (4, 97)))
    norm = np.array([cpu.global_norm(stream(70_001))])
    return [
        out,
        dx,
        dweight,
        dbias,
        losses,
        lse,
        normal,
        dnormal,
        dscale,
        attended,
        dqkv,
        scores,
        table,
        norm,
    ]


@pytest.mark.parametrize("half", [False, True])
def test_two_runs_give_equal_bits_on_any_number_of_threads(isa, half):
    first = [array.tobytes() for array in a_step(Cpu(threads=CORES, isa=isa), half=half)]
    again = Cpu(threads=CORES, isa=isa)
    for _ in range(2):
        assert [array.tobytes() for array in a_step(again, half=half)] == first
    assert [array.tobytes() for array in a_step(Cpu(threads=1, isa=isa), half=half)] == first


def test_a_second_step_allocates_nothing(cpu):
    a_step(cpu, half=True)
    grown = cpu.engine.growths
    assert grown > 0
    a_step(cpu, half=True)
    a_step(cpu, half=False)
    after = cpu.engine.growths
    a_step(cpu, half=False)
    assert cpu.engine.growths == after


def test_instruction_sets_agree_within_rounding(isa):
    best, other = Cpu(threads=1), Cpu(threads=1, isa=isa)
    for one, two in zip(a_step(best, half=False), a_step(other, half=False), strict=True):
        np.testing.assert_allclose(wide(one), wide(two), rtol=1e-3, atol=1e-4)


def test_zeros_may_be_bf16(cpu):
    assert (wide(cpu.zeros((2, 3), BFLOAT16)) == 0).all()


JAILED = """
import ctypes, os, sys
import numpy as np
from appliance.sandbox import WORKER, apply
import kernels
libc = ctypes.CDLL(None, use_errno=True)
if sys.argv[1] == "early":
    ops = kernels.backend("cpu")
took = libc.prctl(65, 1, 0, 0, 0) == 0  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
applied = apply(WORKER)
# NumPy's threads run by now, which a worker takes care of: it puts on its jail before it imports NumPy.
assert set(applied.missing) <= {"files", "own-user", "namespaces"}, applied
if sys.argv[1] == "late":
    ops = kernels.backend("cpu")
x = np.ones((600, 64), np.float32)
out = np.zeros((600, 128), np.float32)
ops.linear_forward(out, x=x, weight=np.ones((64, 128), np.float32), bias=None)
assert (out == 64).all()
assert len(os.listdir("/proc/self/task")) >= ops.engine.threads
print("mdwe" if took else "no-mdwe", ops.NAME)
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_threads_start_and_ops_run_in_the_jail_without_executable_memory(isa, when):
    """Under the worker's own system call filter, and where the kernel knows it (6.3), PR_SET_MDWE."""
    done = subprocess.run(
        [sys.executable, "-c", JAILED, when], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "cpu/" in done.stdout
