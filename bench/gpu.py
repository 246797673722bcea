"""Training steps on a card, ours beside PyTorch's compiled ones; one run, under ten minutes, one JSON.

    python bench/gpu.py --cubins build/cubins

Needs a card, CuPy, PyTorch and the cubins of `make cubins`; of the appliance only `kernels` and
`appliance.training`. First a small model is held against the reference: wrong steps are not timed. Then
GPT-2 of
124 million and a model of a thousand million parameters, T = 1,024, the same batch for both sides, in turns;
then op by op. Times are medians of wall-clock times of a whole step that ends when the card has ended it, so
that what the host adds counts. Writes bench/results/gpu-CARD.json, and the same to standard output.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import kernels  # noqa: E402  found beside this script
from appliance.training.config import ModelConfig, RunConfig, parse_config  # noqa: E402
from appliance.training.layout import Buffer  # noqa: E402
from appliance.training.model import GPT  # noqa: E402
from appliance.training.optimizer import AdamW  # noqa: E402
from kernels.cuda.card import Card  # noqa: E402
from kernels.cuda.cubins import arch_for, parse_list, verify_cubin  # noqa: E402
from kernels.cuda.device import Device  # noqa: E402
from kernels.cuda.ops import Cuda  # noqa: E402
from kernels.cuda.signatures import KERNELS  # noqa: E402
from kernels.errors import KernelError  # noqa: E402

RUN: RunConfig = parse_config(b'[data]\ncorpus = "none"\n').train
SMALL = ModelConfig(layers=2, width=64, heads=2, context=32, vocabulary=256)
MODELS = {
    "124m": ModelConfig(layers=12, width=768, heads=12, context=1024, vocabulary=50304),
    "1b": ModelConfig(layers=16, width=2048, heads=16, context=1024, vocabulary=50304),
}
_AS_WRITTEN = argparse.RawDescriptionHelpFormatter
PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense, a second


class Run:
    """A model of ours, its optimizer and one batch after the other."""

    def __init__(
        self, config: ModelConfig, batch: int, backend: Any, precision: str, *, recompute: bool
    ) -> None:
        self.config, self.batch, self.backend = config, batch, backend
        self.model = GPT(config, backend, precision=precision, recompute=recompute)
        self.gradients = Buffer(self.model.layout, backend)
        self.arena = self.model.arena(batch, config.context)
        self.optimizer = AdamW(self.model.layout, backend)
        self.count = 0
        self.model.initialise(1)

    def step(self) -> float:
        """Forward, backward, clip, AdamW; returns the loss."""
        tokens, targets = drawn(self.config, self.batch, self.count)
        self.gradients.flat[:] = 0.0
        loss = self.model.forward_backward(self.arena, self.gradients, tokens, targets)
        norm = self.backend.global_norm(self.gradients.flat)
        self.optimizer.update(
            self.model.parameters, self.gradients, RUN, step=self.count, learning_rate=3e-4, norm=norm
        )
        self.count += 1
        return loss


def drawn(config: ModelConfig, batch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets (B, T) of a step: a walk that can be learnt."""
    random = np.random.default_rng(step % 8)
    start = random.integers(0, config.vocabulary, (batch, 1))
    stream = (start + np.arange(config.context + 1)) % config.vocabulary
    return np.ascontiguousarray(stream[:, :-1]), np.ascontiguousarray(stream[:, 1:])


def check(device: Device, steps: int = 5) -> dict[str, Any]:
    """Hold the steps of a small model against the reference; raises SystemExit where they differ."""
    ours = Run(SMALL, 4, Cuda(device), "bf16", recompute=False)
    exact = Run(SMALL, 4, kernels.backend("reference"), "fp32", recompute=False)
    off = max(abs(ours.step() / exact.step() - 1.0) for _ in range(steps))
    again = Run(SMALL, 4, Cuda(device), "bf16", recompute=False)
    for _ in range(steps):
        again.step()
    finals = [np.asarray(each.model.parameters.flat).tobytes() for each in (ours, again)]
    equal = finals[0] == finals[1]
    if off > 1e-2 or not equal:
        raise SystemExit(
            f"gpu: expected the losses of the reference within 1e-2 and equal bits, found {off} and {equal}"
        )
    return {"loss_off_by": off, "two_runs_equal": equal}


def flops_per_token(config: ModelConfig) -> float:
    """Six operations a weight, and those of attention over T/2 keys on average."""
    body = config.layers * 12 * config.width**2 + config.vocabulary * config.width
    return 6.0 * body + 6.0 * config.layers * config.width * config.context


def median_of(step: Callable[[], object], wait: Callable[[], object], until: float, most: int = 30) -> float:
    """Median seconds of a step after three that warm up; stops at `until`."""
    for _ in range(3):
        step()
    wait()
    times: list[float] = []
    while len(times) < most and (time.monotonic() < until or len(times) < 3):
        began = time.perf_counter()
        step()
        wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def row(config: ModelConfig, batch: int, ours_s: float, peer_s: float, peak: float | None) -> dict[str, Any]:
    """One line of the result."""
    tokens = batch * config.context
    line: dict[str, Any] = {
        "batch": batch,
        "ours_ms": 1e3 * ours_s,
        "torch_ms": 1e3 * peer_s,
        "ours_tokens_per_s": tokens / ours_s,
        "torch_tokens_per_s": tokens / peer_s,
        "speedup": peer_s / ours_s,
    }
    if peak:
        line["ours_of_peak"] = flops_per_token(config) * tokens / ours_s / peak
    return line


def measure(
    card: Card, config: ModelConfig, batch: int, until: float, peak: float | None, *, recompute: bool
) -> dict[str, Any]:
    """Time ours, give its memory back, time PyTorch's."""
    ours = Run(config, batch, Cuda(card), "bf16", recompute=recompute)
    half_way = (time.monotonic() + until) / 2
    ours_s = median_of(ours.step, card.main.synchronize, half_way)
    card.release_all()
    step, wait = torch_step(config, batch)
    return row(config, batch, ours_s, median_of(step, wait, until), peak)


def torch_step(config: ModelConfig, batch: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """PyTorch's step, compiled, bf16 autocast with flash attention and fused AdamW."""
    import torch  # noqa: PLC0415  not before ours was timed
    from torch import nn  # noqa: PLC0415

    sys.path.insert(0, str(Path(__file__).parent / "contenders"))
    from pytorch import Decoder  # noqa: PLC0415

    shape = {"width": config.width, "heads": config.heads, "layers": config.layers}
    model = Decoder(shape | {"vocabulary": config.vocabulary, "time": config.context}).cuda()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.99), weight_decay=0.1, fused=True
    )
    function = torch.compile(model)
    count = 0

    def step() -> float:
        nonlocal count
        tokens, targets = (torch.from_numpy(each).cuda() for each in drawn(config, batch, count))
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = function(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        count += 1
        return float(loss.item())

    return step, torch.cuda.synchronize


def ops(card: Card, until: float) -> dict[str, Any]:
    """Attention and norm, ours beside PyTorch's; B = 16, T = 1,024, 12 heads of 64."""
    import torch  # noqa: PLC0415  not before ours was timed
    from torch.nn import functional as F  # noqa: N812, PLC0415  PyTorch's own name for it

    B, T, H, C = 16, 1024, 12, 768
    cuda, half = Cuda(card), kernels.BFLOAT16
    qkv, dqkv = (cuda.zeros((B, T, 3 * C), half) for _ in range(2))
    out, normal = cuda.zeros((B, T, C), half), cuda.zeros((B * T, C), half)
    lse, x = cuda.zeros((B, H, T), np.float32), cuda.zeros((B * T, C), np.float32)
    moments = [cuda.zeros((B * T,), np.float32) for _ in range(2)]
    weight, bias = (cuda.zeros((C,), np.float32) for _ in range(2))
    there = {"device": "cuda", "dtype": torch.bfloat16, "requires_grad": True}
    q, k, v = (torch.zeros(B, H, T, C // H, **there) for _ in range(3))
    rows, gain = torch.zeros(B * T, C, device="cuda"), torch.zeros(C, device="cuda")
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    slope = torch.zeros_like(attended)
    pairs: Mapping[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "attention_forward": (
            lambda: cuda.attention_forward(out, lse, qkv=qkv, heads=H),
            lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        ),
        "attention_backward": (
            lambda: cuda.attention_backward(dqkv, dout=out, out=out, lse=lse, qkv=qkv, heads=H),
            lambda: torch.autograd.grad(attended, (q, k, v), slope, retain_graph=True),
        ),
        "layernorm_forward": (
            lambda: cuda.layernorm_forward(normal, *moments, x=x, weight=weight, bias=bias),
            lambda: F.layer_norm(rows, (C,), gain, gain),
        ),
    }
    table = {}
    for name, (ours, peer) in pairs.items():
        ours_s = median_of(ours, card.main.synchronize, until)
        peer_s = median_of(peer, torch.cuda.synchronize, until)
        table[name] = {"ours_us": 1e6 * ours_s, "torch_us": 1e6 * peer_s, "speedup": peer_s / ours_s}
    return table


def listed_cubins(folder: Path) -> Callable[[tuple[int, int]], Mapping[str, bytes]]:
    """Cubins held against the committed list."""

    def load(capability: tuple[int, int]) -> Mapping[str, bytes]:
        listed = parse_list((ROOT / "kernels/cubins.json").read_bytes())
        arch, checked = arch_for(capability, listed.archs), {}
        for source in sorted({kernel.source for kernel in KERNELS.values()}):
            checked[source] = (folder / arch / f"{source}.cubin").read_bytes()
            verify_cubin(listed, arch, source, checked[source])
        return checked

    return load


def machine(card: Device) -> dict[str, Any]:
    """Say what it runs on."""
    return {"card": card.NAME, "date": time.strftime("%Y-%m-%d"), "python": platform.python_version()}


def write(folder: Path, prefix: str, result: dict[str, Any]) -> None:
    """Keep the result under the card's name, and print it."""
    name = re.sub(r"[^a-z0-9]+", "-", result["machine"]["card"].lower()).strip("-")
    text = json.dumps(result, indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{prefix}-{name}.json").write_text(text, encoding="utf-8")
    print(text, end="")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AS_WRITTEN)
    parser.add_argument("--cubins", type=Path, default=ROOT / "build/cubins", help="folder of `make cubins`")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--seconds", type=float, default=480.0, help="for all of it")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", type=int, default=32, help="of the 124m; the 1b takes a quarter")
    parser.add_argument("--recompute", action="store_true", help="ours computes activations again")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure; without a card say so and return 1."""
    asked = parse(arguments)
    try:
        card = Card(listed_cubins(asked.cubins))
    except (KernelError, OSError) as missing:
        print(f"gpu: {missing}", file=sys.stderr)
        return 1
    ends = time.monotonic() + asked.seconds
    peak = next((value for name, value in PEAK_BF16.items() if name in card.NAME), None)
    result: dict[str, Any] = {"machine": machine(card), "correct": check(card), "steps": {}}
    for number, name in enumerate(asked.models):
        until = time.monotonic() + (ends - time.monotonic()) / (len(asked.models) - number + 0.5)
        batch = asked.batch if name == "124m" else max(1, asked.batch // 4)
        result["steps"][name] = measure(card, MODELS[name], batch, until, peak, recompute=asked.recompute)
    result["ops"] = ops(card, ends)
    write(asked.out, "gpu", result)
    card.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
