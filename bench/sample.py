"""Tokens per second of sampling at batch 1: ours beside a PyTorch loop with a cache, alternated in one run.

    make bench-sample        installs PyTorch into bench/.venv where it is missing, measures, prints JSON

Both take the same weights and settings (temperature 0.8, top 40), and are first shown to come to the
same logits. PyTorch runs with one thread and with all; the faster is the peer. Ratios are of medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import kernels
from appliance.training.config import ModelConfig
from appliance.training.decode import Decoder
from appliance.training.model import GPT
from appliance.training.sample import SampleSettings, sample

HERE = Path(__file__).parent
TORCH = HERE / ".venv" / "bin" / "python"
THREADS = len(os.sched_getaffinity(0))
ROUNDS, LENGTH = 5, 200
MODELS = {
    "4 layers d128 V256": ModelConfig(layers=4, width=128, heads=4, context=256),
    "6 layers d384 V4096": ModelConfig(layers=6, width=384, heads=6, context=256, vocabulary=4096),
}


class Peer:
    """A PyTorch process that generates when it is told to."""

    def __init__(self, weights: Path, heads: int, threads: int) -> None:
        setting = {"weights": str(weights), "heads": heads, "threads": threads}
        script = str(HERE / "contenders" / "sampling_pytorch.py")
        self._process = subprocess.Popen(
            [str(TORCH), script, json.dumps(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self._answer()["ready"]

    def ask(self, **task: object) -> dict[str, Any]:
        """Send one task and wait for its answer."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        return dict(json.loads(self._process.stdout.readline()))


def measure(config: ModelConfig, folder: Path) -> dict[str, Any]:
    """Alternate the contenders on one model."""
    model = GPT(config, kernels.backend("cpu", threads=THREADS))
    model.initialise(1)
    model.parameters.flat[:] += np.random.default_rng(1).normal(0, 0.02, model.parameters.flat.shape)
    weights = folder / "weights.npz"
    np.savez(weights, **model.parameters.views)
    peers = {f"pytorch, {n} threads": Peer(weights, config.heads, n) for n in sorted({1, THREADS})}
    settings = SampleSettings(LENGTH, temperature=0.8, top_k=40)
    tokens = [int(token) for token in np.random.default_rng(2).integers(0, config.vocabulary, 64)]
    ours = Decoder(model).read(tokens)
    found: dict[str, list[float]] = {"ours": [], **{name: [] for name in peers}}
    apart = 0.0
    for peer in peers.values():
        theirs = np.array(peer.ask(tokens=tokens)["logits"])
        apart = max(apart, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    for turn in range(ROUNDS + 1):
        began = time.perf_counter()
        list(sample(model, b"\1", settings))
        took = {"ours": time.perf_counter() - began}
        for name, peer in peers.items():
            took[name] = peer.ask(length=LENGTH, top_k=40, temperature=0.8)["seconds"]
        if turn:  # the first round warms all of them
            for name, seconds in took.items():
                found[name].append(LENGTH / seconds)
    version = next(iter(peers.values())).version
    for peer in peers.values():
        peer.end()
    medians = {name: statistics.median(each) for name, each in found.items()}
    best = max(medians[name] for name in peers)
    return {
        "tokens_per_s": {name: round(median) for name, median in medians.items()},
        "ratio_to_best_pytorch": round(medians["ours"] / best, 2),
        "logits_apart": float(f"{apart:.1e}"),
        "pytorch": version,
    }


def main() -> None:
    """Print one JSON document."""
    if not TORCH.exists():
        sys.exit(f"{TORCH} is missing: `make bench-sample` installs PyTorch there")
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: measure(config, Path(folder)) for name, config in MODELS.items()}
    print(json.dumps({"threads": THREADS, "rounds": ROUNDS, "tokens": LENGTH, "models": rows}, indent=2))


if __name__ == "__main__":
    main()
