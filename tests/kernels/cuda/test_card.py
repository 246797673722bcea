"""The card behind CuPy, over a CuPy that is made of host memory: what is called, and what is told."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from kernels.cuda import launches
from kernels.cuda.card import Card
from kernels.cuda.device import Product
from kernels.cuda.ops import Cuda
from kernels.cuda.signatures import KERNELS
from kernels.errors import BackendMissing, CubinRefused, DeviceFailed, DeviceFull
from kernels.table import BFLOAT16
from tests.kernels.cpu.conftest import narrow, wide
from tests.kernels.cuda.shim import library
from tests.kernels.cuda.shim.device import ShimDevice
from tests.kernels.cuda.shim.fake_cupy import CudaError, Fake
from tests.kernels.cuda.test_backend import STEPS, config_of, trainer_of

ROOT = Path(__file__).parents[3]


def cubins(_):
    return {each.source: each.source.encode() for each in KERNELS.values()}


@pytest.fixture
def fake(monkeypatch):
    if reason := library.missing():
        pytest.skip(reason)
    made = Fake()
    made.install(monkeypatch)
    return made


@pytest.fixture
def card(fake):
    return Card(cubins)


@pytest.mark.parametrize("x_turned", [False, True])
@pytest.mark.parametrize("y_turned", [False, True])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("out_half", [False, True])
def test_a_product_is_that_of_the_tests_card(card, x_turned, y_turned, add, out_half):
    M, N, K = 3, 5, 4
    random = np.random.default_rng(1)
    x, y, out = (random.standard_normal(shape).astype(np.float32) for shape in ((M, K), (K, N), (M, N)))
    found = []
    for device in (card, ShimDevice()):
        lying = {
            "x": narrow(x.T if x_turned else x),
            "y": narrow(y.T if y_turned else y),
            "out": narrow(out) if out_half else out.copy(),
        }
        at = {name: device.allocate(array.nbytes) for name, array in lying.items()}
        for name, array in lying.items():
            device.write(at[name], array.reshape(-1).view(np.uint8).data)
        product = Product(
            **at, M=M, N=N, K=K, half=True, out_half=out_half, x_turned=x_turned, y_turned=y_turned, add=add
        )
        device.multiply(product, device.main)
        device.read(lying["out"].reshape(-1).view(np.uint8).data, at["out"])
        found.append(wide(lying["out"]))
    assert np.allclose(*found, rtol=1e-2 if out_half else 1e-5)  # sums in other orders
    assert np.allclose(found[0], x @ y + (out if add else 0), atol=0.05)


def test_a_model_trains_as_on_the_tests_card(card):
    losses = []
    for device in (card, ShimDevice(1 << 28)):
        trainer = trainer_of(config_of("gpt2", "bf16"), Cuda(device))
        losses.append([trainer.step().loss for _ in range(STEPS)])
    assert np.allclose(*losses, rtol=1e-4)  # the two sum products in other orders


def test_memory_is_zeros_when_it_is_taken_and_when_it_is_given_back(card, fake):
    fake.given_back.clear()
    address = card.allocate(1000)
    assert not fake.taken[address].any()
    fake.taken[address][:] = 7
    card.release(address)
    assert not fake.given_back[0].any()
    assert bytes(card.pinned(10)) == bytes(10)
    other = card.allocate(10)
    fake.taken[other][:] = 7
    card.close()
    assert not fake.taken
    assert not fake.page_locked
    assert not any(each.any() for each in fake.given_back)


def test_what_another_job_left_is_zeroed_before_use(fake):
    fake.size, fake.largest = (1 << 28) + 5, 100 << 20  # in pieces
    card = Card(cubins)
    assert fake.size - card.scrubbed_bytes < 2 << 20
    assert sum(each.size for each in fake.given_back) == card.scrubbed_bytes
    assert not any(each.any() for each in fake.given_back)
    assert card.free_bytes() == fake.size


def test_more_shared_memory_than_a_block_has_is_asked_for_once_and_by_the_largest(card, fake):
    how = launches.norm_backward(centred=True, half=True, N=1, C=8192)
    assert how.shared_bytes > launches.FREE_SHARED
    cuda = Cuda(card)
    for C in (64, 8192):
        rows = [cuda.zeros((1, C), np.float32) for _ in range(2)]
        dout = cuda.zeros((1, C), BFLOAT16)
        slopes = [cuda.zeros((C,), np.float32) for _ in range(3)]
        moments = [cuda.zeros((1,), np.float32) for _ in range(2)]
        cuda.layernorm_backward(
            rows[0], *slopes[:2], dout=dout, x=rows[1], weight=slopes[2], mean=moments[0], rstd=moments[1]
        )
    assert fake.shared == {how.kernel: how.shared_bytes}


def test_without_cupy_the_extra_to_install_is_named():
    with pytest.raises(BackendMissing, match=r"pip install 'training-appliance\[gpu\]'"):
        Card(cubins)


def test_a_driver_that_is_missing_or_too_old_is_named_with_the_version_it_must_have(fake):
    fake.count_fails = CudaError(35, "cudaErrorInsufficientDriver")
    with pytest.raises(
        BackendMissing, match=r"a driver for CUDA 13\.0, found none or an older one \(12040\)"
    ):
        Card(cubins)


@pytest.mark.parametrize("none", [CudaError(100, "cudaErrorNoDevice"), None])
def test_no_card_is_told(fake, none):
    fake.count_fails, fake.cards = none, 0
    with pytest.raises(BackendMissing, match="expected a card, found none"):
        Card(cubins)


def test_a_driver_that_fails_otherwise_is_quoted(fake):
    fake.count_fails = CudaError(999, "cudaErrorUnknown: unknown error")
    with pytest.raises(DeviceFailed, match="found cudaErrorUnknown"):
        Card(cubins)


def test_nothing_reaches_the_driver_when_a_cubin_is_refused(fake):
    def refuse(_):
        raise CubinRefused("cubin norm for sm_90: expected SHA-256 …")

    with pytest.raises(CubinRefused):
        Card(refuse)
    assert not fake.loaded


def test_a_card_that_is_full_says_what_to_lower(card):
    with pytest.raises(DeviceFull, match=r"found \d+ bytes free; lower train.batch"):
        card.allocate(1 << 40)


def test_a_kernel_that_fails_is_named_with_the_one_before(card, fake):
    cuda = Cuda(card)
    x = cuda.zeros((4,), np.float32)
    cuda.residual_forward(x, x=x, branch=x)
    fake.fails_at["gelu_forward_fp32"] = CudaError(214, "cudaErrorECCUncorrectable")
    with pytest.raises(
        DeviceFailed, match=r"expected gelu_forward_fp32, found cudaErrorECC.*after residual_fp32"
    ) as told:
        cuda.gelu_forward(x, x=x)
    assert "have the card replaced" in str(told.value)
    assert "last checkpoint stands" in str(told.value)


# --- what of CuPy may be named at all --------------------------------------------------------------------

PARTS = {
    "cupy.cuda",
    "cupy.cuda.driver",
    "cupy.cuda.function",
    "cupy.cuda.nccl",
    "cupy.cuda.runtime",
    "cupy_backends.cuda.libs.cublas",
}
COMPILERS = {
    "nvrtc",
    "RawKernel",
    "RawModule",
    "ElementwiseKernel",
    "ReductionKernel",
    "fuse",
    "jit",
    "LinkState",
}


def run_time_sources():
    folders = ("kernels", "appliance/training", "appliance/worker")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_compiler_is_named_where_training_runs():
    for path in run_time_sources():
        named = {
            getattr(node, field)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for field in ("id", "attr", "name", "module")
            if isinstance(getattr(node, field, None), str)
        }
        assert not named & COMPILERS, path
        assert not {name for name in named if "nvrtc" in name.lower()}, path


def test_only_thin_parts_of_cupy_are_imported():
    for path in run_time_sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert {text for text in texts if text.startswith("cupy")} <= PARTS, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else [each.name for each in node.names]
                )
                assert not any(name.split(".")[0] in {"cupy", "cupyx", "cupy_backends"} for name in names), (
                    path
                )
