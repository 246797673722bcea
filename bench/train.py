"""Training steps per second: ours beside PyTorch, alternated in one run, on the same model and batches.

    make bench-train                         everything: installs PyTorch into bench/.venv, compiles, measures
    python bench/train.py prepare            the shim, and PyTorch's compiled graphs of every row
    python bench/train.py rows               every row, or with --only NAME (again and again) those
                                 [--hold]    once all are warm, wait for a line on standard input
                                             (for a quiet moment)
                                 [--cpu]     one thread, and its processor time instead of the
                                             clock on the wall: for a machine that others use too
                                             prepare takes --only as well; a row alone, once
                                             prepared, takes about a minute
    python bench/train.py gradients          distance of the gradients to float64

PyTorch runs eager and compiled, each stock and with MKL told that the processor is Intel's (its AVX-512 path;
`contenders/avx512_on_amd.c`). All contenders of a row live at the same time and take turns; what is not asked
sleeps. Ratios are of medians; the best of PyTorch's is the peer. Results are merged into
bench/results/train-CPU.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from contenders import ours

import kernels
from appliance.training.layout import Buffer

HERE = Path(__file__).parent
BUILT = HERE / ".venv" / "bench"
TORCH = HERE / ".venv" / "bin" / "python"
THREADS = len(os.sched_getaffinity(0))
LARGE = {"layers": 6, "width": 384, "heads": 6, "time": 256, "batch": 8, "vocabulary": 4096}
SMALL = {"layers": 4, "width": 128, "heads": 4, "time": 256, "batch": 8, "vocabulary": 256}
ROWS = {
    "fp32-6-layers": ("fp32", LARGE),
    "fp32-4-layers": ("fp32", SMALL),
    "bf16-6-layers": ("bf16", LARGE),
    "bf16-4-layers": ("bf16", SMALL),
}
ROUNDS, SECONDS = 3, 1.5


class Contender:
    """A process that takes steps when it is told to."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.ready = self._answer()["ready"]
        self.took: list[float] = []

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
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended without an answer")
        return dict(json.loads(line))


def contender(
    name: str, precision: str, shape: dict[str, int], *, threads: int = THREADS, warm: int = 3
) -> Contender:
    """Start one and wait until it is warm."""
    setting = {"shape": shape, "precision": precision, "threads": threads}
    environment = {"OMP_NUM_THREADS": str(threads)}
    if name == "ours":
        return Contender([sys.executable, str(HERE / "contenders/ours.py"), json.dumps(setting)], environment)
    kind, path = name.split("-")
    setting |= {"compiled": kind == "compiled", "warm": warm}
    environment["TORCHINDUCTOR_CACHE_DIR"] = str(BUILT / f"inductor-{path}")
    if path == "forced":
        environment["LD_PRELOAD"] = str(BUILT / "avx512_on_amd.so")
    return Contender([str(TORCH), str(HERE / "contenders/pytorch.py"), json.dumps(setting)], environment)


PEERS = ("eager-stock", "eager-forced", "compiled-stock", "compiled-forced")


def prepare(names: list[str]) -> None:
    """Build the shim and let PyTorch compile what these rows will run, so that none waits for that."""
    BUILT.mkdir(parents=True, exist_ok=True)
    compiler = shutil.which("cc") or "g++"
    source = str(HERE / "contenders/avx512_on_amd.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(BUILT / "avx512_on_amd.so"), source], check=True)
    for precision, shape in (ROWS[name] for name in names):
        for path in ("stock", "forced"):
            contender(f"compiled-{path}", precision, shape, warm=1).end()


def flops(shape: dict[str, int]) -> float:
    """Operations of a step: products of forward and both backward parts, and attention's causal half.

    Scores that the backward computes again are not counted.
    """
    C, tokens = shape["width"], shape["batch"] * shape["time"]
    matrices = 12 * shape["layers"] * C * C + shape["vocabulary"] * C
    return tokens * (6.0 * matrices + 6.0 * shape["layers"] * C * shape["time"])


def started(name: str, threads: int) -> dict[str, Contender]:
    """All contenders of a row, warm and waiting."""
    precision, shape = ROWS[name]
    return {each: contender(each, precision, shape, threads=threads) for each in ("ours", *PEERS)}


def row(name: str, running: dict[str, Contender], clock: str) -> dict[str, Any]:
    """Let the contenders take turns; returns the row of the table."""
    precision, shape = ROWS[name]
    for _ in range(ROUNDS):
        for each in running.values():
            each.took += each.ask(do="steps", seconds=SECONDS, clock=clock)["ms"]
    peak = {each: running[each].ask(do="products") for each in ("ours", "eager-stock", "eager-forced")}
    for each in running.values():
        each.end()
    medians = {each: statistics.median(running[each].took) for each in running}
    best = {path: min(medians[f"eager-{path}"], medians[f"compiled-{path}"]) for path in ("stock", "forced")}
    fastest_product = max(value for each in peak.values() for value in each.values())
    reached = flops(shape) / medians["ours"] / 1e6
    return {
        "precision": precision,
        "shape": shape,
        "backend": running["ours"].ready,
        "peer": running["eager-stock"].ready,
        "median_ms": {each: round(value, 2) for each, value in medians.items()},
        "steps": {each: len(running[each].took) for each in running},
        "ahead_of_stock": round(best["stock"] / medians["ours"], 3),
        "ahead_of_forced": round(best["forced"] / medians["ours"], 3),
        "gflops_of_step": round(reached, 1),
        "gflops_of_best_product": round(fastest_product, 1),
        "share_of_best_product": round(reached / fastest_product, 3),
        "tokens_per_s": round(shape["batch"] * shape["time"] / medians["ours"] * 1e3),
    }


def rows(names: list[str], *, hold: bool, on_cpu: bool) -> None:
    """Measure rows one after the other, each kept as soon as it is there."""
    running = {name: started(name, 1 if on_cpu else THREADS) for name in names}
    if hold:
        sys.stdin.readline()
    for name in names:
        result = row(name, running[name], "cpu" if on_cpu else "wall")
        keep(f"{name}-one-thread-cpu-time" if on_cpu else name, result)
        print(json.dumps({name: result}, indent=2), flush=True)


def gradients() -> dict[str, Any]:
    """‖g - g₆₄‖ / ‖g₆₄‖ over the whole gradient, g₆₄ the reference's in float64 from the same weights."""
    shape, found = LARGE, {}
    tokens, targets = ours.batch(shape, 1)
    exact = ours.Run(shape, "fp32", THREADS, "reference", np.float64)
    weights = {name: view.astype(np.float32) for name, view in exact.model.parameters.views.items()}
    for name, view in exact.model.parameters.views.items():
        view[...] = weights[name]
    exact.model.forward_backward(exact.arena, exact.gradients, tokens, targets)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "weights.npz", **weights)
        np.savez(Path(folder) / "batch.npz", tokens=tokens, targets=targets)
        for precision in ("fp32", "bf16"):
            run = ours.Run(shape, precision, THREADS, "cpu")
            for name, view in run.model.parameters.views.items():
                view[...] = weights[name]
            run.model.forward_backward(run.arena, run.gradients, tokens, targets)
            peer = contender("eager-stock", precision, shape, warm=0)
            peer.ask(do="gradient", folder=folder)
            peer.end()
            theirs = dict(np.load(Path(folder) / "torch.npz"))
            mine, torch = distance(run.gradients.views, exact.gradients), distance(theirs, exact.gradients)
            found[precision] = {"ours": mine, "pytorch": torch, "ours_over_pytorch": round(mine / torch, 3)}
    return {"shape": shape, **found}


def distance(found: Any, exact: Buffer) -> float:
    errors = [np.sum((found[name].astype(np.float64) - view) ** 2) for name, view in exact.views.items()]
    return float(f"{np.sqrt(sum(errors)) / np.linalg.norm(exact.flat):.3g}")


def processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = re.search(r"model name\s*: (.*)", text)
    family = re.search(r"cpu family\s*: (\d+)\nmodel\s*: (\d+)", text)
    return (
        f"{name[1] if name else platform.machine()}, family {family[1]} model {family[2]}"
        if family
        else "unknown"
    )


def keep(part: str, result: dict[str, Any]) -> Path:
    """Merge one result into the file of this machine."""
    slug = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
    path = HERE / "results" / f"train-{slug}.json"
    path.parent.mkdir(exist_ok=True)
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    whole |= {"machine": processor(), "threads": THREADS, "kernel": platform.release()}
    whole["instruction_sets"] = list(kernels.cpu.library.instruction_sets())
    whole[part] = {"date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"), **result}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("prepare", "rows", "gradients"))
    parser.add_argument("--only", action="append", choices=tuple(ROWS), help="a row; all without it")
    parser.add_argument("--hold", action="store_true", help="wait for a line once all are warm")
    parser.add_argument("--cpu", action="store_true", help="one thread and its processor time")
    given = parser.parse_args()
    names = given.only or list(ROWS)
    if given.part == "prepare":
        prepare(names)
    elif given.part == "rows":
        rows(names, hold=given.hold, on_cpu=given.cpu)
    else:
        result = gradients()
        keep("gradients", result)
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
