"""Our side of `bench/train.py`: steps of the training engine, as the line on standard input asks.

A step is forward, backward, clipping and AdamW on one batch. Each line is answered with one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

import kernels
from appliance.training.config import ModelConfig, RunConfig, parse_config
from appliance.training.layout import Buffer
from appliance.training.model import GPT
from appliance.training.optimizer import AdamW

PRODUCTS = (
    (2048, 2048, 2048),
    (4096, 1024, 1024),
    (2048, 1536, 1536),
    (2048, 1536, 384),
)  # rows, inputs, outputs


class Run:
    """A model, its optimizer and one batch after the other."""

    def __init__(
        self, shape: dict[str, int], precision: str, threads: int, backend: str, dtype: type = np.float32
    ) -> None:
        self.shape = shape
        config = ModelConfig(
            layers=shape["layers"],
            width=shape["width"],
            heads=shape["heads"],
            context=shape["time"],
            vocabulary=shape["vocabulary"],
        )
        self.backend = kernels.backend(backend, threads=threads)
        self.model = GPT(config, self.backend, dtype, precision)
        self.gradients = Buffer(self.model.layout, self.backend, dtype)
        self.arena = self.model.arena(shape["batch"], shape["time"])
        self.optimizer = AdamW(self.model.layout, self.backend)
        self.settings: RunConfig = parse_config(b'[data]\ncorpus = "none"\n').train
        self.count = 0
        self.model.initialise(1)

    def step(self) -> float:
        """Take one step; returns the loss."""
        tokens, targets = batch(self.shape, self.count)
        self.gradients.flat[:] = 0.0
        loss = self.model.forward_backward(self.arena, self.gradients, tokens, targets)
        norm = self.backend.global_norm(self.gradients.flat)
        self.optimizer.update(
            self.model.parameters,
            self.gradients,
            self.settings,
            step=self.count,
            learning_rate=1e-3,
            norm=norm,
        )
        self.count += 1
        return loss


def batch(shape: dict[str, int], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and targets (B, T) that can be learned: next = 3·this + noise; the same in every contender."""
    random = np.random.default_rng(step % 8)
    stream = np.empty((shape["batch"], shape["time"] + 1), np.int64)
    stream[:, 0] = random.integers(0, shape["vocabulary"], shape["batch"])
    noise = random.integers(0, 4, stream.shape)
    for t in range(shape["time"]):
        stream[:, t + 1] = (3 * stream[:, t] + noise[:, t]) % shape["vocabulary"]
    return np.ascontiguousarray(stream[:, :-1]), np.ascontiguousarray(stream[:, 1:])


def steps(run: Run, seconds: float, clock: str) -> dict[str, object]:
    """Take steps for a while: milliseconds of each, and the last loss."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    took, loss, stop = [], 0.0, time.perf_counter() + seconds
    while len(took) < 3 or time.perf_counter() < stop:
        start = now()
        loss = run.step()
        took.append((now() - start) * 1e3)
    return {"ms": took, "loss": loss}


def products(run: Run, precision: str) -> dict[str, float]:
    """GFLOP/s of the linear op at shapes that suit it: the peak that a whole step is held against."""
    random, found = np.random.default_rng(0), {}
    for rows, inputs, outputs in PRODUCTS:
        kind = kernels.BFLOAT16 if precision == "bf16" else np.float32
        x, out = run.backend.zeros((rows, inputs), kind), run.backend.zeros((rows, outputs), kind)
        weight = random.standard_normal((inputs, outputs)).astype(np.float32)
        best = 1e9
        for _ in range(20):
            start = time.perf_counter()
            run.backend.linear_forward(out, x=x, weight=weight, bias=None)
            best = min(best, time.perf_counter() - start)
        found[f"{rows}x{inputs}x{outputs}"] = 2e-9 * rows * inputs * outputs / best
    return found


def main() -> None:
    setting = json.loads(sys.argv[1])
    run = Run(setting["shape"], setting["precision"], setting["threads"], "cpu")
    for _ in range(3):
        run.step()
    print(json.dumps({"ready": run.backend.NAME}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        answer = (
            steps(run, task["seconds"], task["clock"])
            if task["do"] == "steps"
            else products(run, setting["precision"])
        )
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
