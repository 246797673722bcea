"""The measurements for a card, as far as they go without one: what is told, and parts on the tests' card."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tests.kernels.cuda.shim import library
from tests.kernels.cuda.shim.device import ShimDevice

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])

    def load(name):
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def card():
    if reason := library.missing():
        pytest.skip(reason)
    card = ShimDevice(1 << 28)
    yield card
    card.close()


@pytest.mark.parametrize("name", ["gpu", "gpu_crypto"])
def test_without_a_card_it_says_what_to_install_and_writes_nothing(bench, name, tmp_path, capsys):
    bench("gpu")
    assert bench(name).main(["--out", str(tmp_path)]) == 1
    assert f"{name}: expected " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_steps_are_correct_before_they_are_timed(bench, card, monkeypatch):
    gpu = bench("gpu")
    small = gpu.ModelConfig(layers=1, width=16, heads=2, context=8, vocabulary=32)
    monkeypatch.setattr(gpu, "SMALL", small)
    found = gpu.check(card, steps=3)
    assert found["two_runs_equal"]
    assert found["loss_off_by"] < 1e-2
    monkeypatch.setattr(gpu.Cuda, "softmax_cross_entropy_forward", lambda *_, **__: None)
    with pytest.raises(SystemExit, match="expected the losses of the reference"):
        gpu.check(card, steps=1)


def test_a_row_holds_both_sides_and_the_ratio(bench, tmp_path, capsys):
    gpu = bench("gpu")
    line = gpu.row(gpu.MODELS["124m"], 8, 0.010, 0.012, 989e12)
    assert line["speedup"] == pytest.approx(1.2)
    assert line["ours_tokens_per_s"] == pytest.approx(819_200)
    assert 0.5 < line["ours_of_peak"] < 1.0
    result = {"machine": {"card": "NVIDIA H200 (SXM)"}, "steps": {"124m": line}}
    gpu.write(tmp_path, "gpu", result)
    assert json.loads((tmp_path / "gpu-nvidia-h200-sxm.json").read_text()) == result
    assert json.loads(capsys.readouterr().out) == result


def test_sealed_loads_and_saves_are_measured_beside_plain_ones(bench, card):
    bench("gpu")
    found = bench("gpu_crypto").measured(card, size=200_000, chunks=2, repeats=1)
    assert set(found["kernel_gb_per_s"]) == {"poly1305", "chacha20", "both"}
    assert found["whole"]["bytes"] == 200_000
    assert all(rate > 0 for rate in found["whole"]["gb_per_s"].values())
    assert found["correct"] == {"sealed_as_on_the_host": True, "opens_again": True}


@pytest.mark.parametrize("wrong", [["--models", "7t"], ["--batch", "many"], ["--no-such"]])
def test_a_mistyped_option_is_refused(bench, wrong, capsys):
    with pytest.raises(SystemExit) as refused:
        bench("gpu").main(wrong)
    assert refused.value.code == 2
    assert "error" in capsys.readouterr().err
