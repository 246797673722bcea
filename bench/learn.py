"""How much a small machine learns in four minutes: our engine beside nanoGPT's recipe in PyTorch.

    apt-get install bible-kjv bible-kjv-text  once: the text, and the program that prints it
    make bench-learn                          everything, on a machine that has nothing else to do
    python bench/learn.py --only ours         one part: ours, nanogpt, yardsticks; then `--only report`
    python bench/learn.py --only ours --slice 150   at most so many seconds; say it again to go on
    python bench/learn.py --only ours --fresh       forget what an earlier call left of this part
    python bench/learn.py --only ours --shared      beside other work: processor time per thread

The text is the King James Bible as Debian packs it, its last tenth held out. A contender's seconds are those
of training, and for ours those of training the tokenizer and of encoding the text; evaluation is not counted.
Each takes a few steps first, to know how many steps its schedule has, and leaves a reserve of a thirtieth, so
that a machine that slows down does not cut the schedule's end, where most is gained. Ours is kept every half
minute: a call that is broken off is gone on from. Every held-out byte but the first is predicted once, with
at least half a context before it. An order-5 n-gram and what xz adds for the held-out text after the training
text stand beside. Each part prints JSON; results: bench/results/learn-*.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import lzma
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import kernels
from appliance.training.bpe import BytePairs, train
from appliance.training.checkpoint import TrainingState
from appliance.training.config import TrainConfig, parse_config
from appliance.training.data import Corpus, tokenizer_texts
from appliance.training.source import HeldBytes
from appliance.training.tokenizer import parse_tokenizer
from appliance.training.trainer import Trainer

HERE = Path(__file__).parent
WORK = HERE / ".venv" / "learn"
TORCH = HERE / ".venv" / "bin" / "python"
RESULTS = HERE / "results"
BUDGET_S = 240.0
HELD_OUT = 0.1
CALIBRATION_STEPS = 30
RESERVE = 30  # one part in so many of the budget is not planned for, here and by nanogpt.py
KEEP_S = 30.0
VERSES = "gen1:1-rev22:21"
ORDER, DISCOUNT = 5, 0.75
THREADS = len(os.sched_getaffinity(0))
SHARED = "--shared" in sys.argv
PARTS = ("all", "ours", "nanogpt", "yardsticks", "report")

RECIPE = """
[model]
layers = 4
width = 192
heads = 6
context = 128
vocabulary = 2048
positions = "rotary"
norm = "rmsnorm"
activation = "swiglu"
dropout = 0.05

[train]
steps = {steps}
batch = 16
learning_rate = 0.004
min_learning_rate = 0.00001
schedule = "linear"
warmup_steps = 100
weight_decay = 0.1
beta2 = 0.98
precision = "{precision}"
validation_fraction = {held_out}

[data]
corpus = "kjv"
tokenizer = "bpe"
"""


def clock() -> float:
    """Seconds: of the wall, or, beside other work, of a processor per thread (waiting in a loop counts)."""
    return time.process_time() / THREADS if SHARED else time.perf_counter()


def text() -> bytes:
    program = shutil.which("bible")
    if program is None:
        raise SystemExit("no text: `apt-get install bible-kjv` gives the King James Bible and its reader")
    return subprocess.run([program, "-f", VERSES], capture_output=True, check=True).stdout


def parts(data: bytes) -> tuple[bytes, bytes]:
    """Cut as a run of ours does: the last tenth, in whole bytes."""
    cut = len(data) - int(len(data) * HELD_OUT)
    return data[:cut], data[cut:]


def recipe(steps: int) -> TrainConfig:
    precision = "bf16" if "bf16" in kernels.fastest()[0].PRECISIONS else "fp32"
    return parse_config(RECIPE.format(steps=steps, precision=precision, held_out=HELD_OUT).encode())


# --- ours ------------------------------------------------------------------------------------------------


def ours(limit_s: float) -> None:
    """Train for at most `limit_s` seconds from where the last call stopped."""
    folder = WORK / "ours"
    folder.mkdir(parents=True, exist_ok=True)
    data = {"kjv": HeldBytes(text())}
    began = clock()
    state = load(folder)
    if state is None:
        table = train(tokenizer_texts([data["kjv"]], HELD_OUT), recipe(1000).model.vocabulary)
    else:
        table = parse_tokenizer((folder / "tokenizer").read_bytes())
    corpus = Corpus(data, BytePairs(table), recipe(1000))
    ready_s = clock() - began
    ops = kernels.fastest()[0]
    if state is None:
        step_s = calibrate(Trainer(recipe(1000), corpus, ops))
        steps = int((BUDGET_S * (1 - 1 / RESERVE) - ready_s) / step_s)
        facts = {"steps": steps, "used_s": ready_s, "ready_s": ready_s, "planned_step_s": step_s}
        (folder / "tokenizer").write_bytes(table.encode())
        trainer = Trainer(recipe(facts["steps"]), corpus, ops)
    else:
        facts, saved = state
        trainer = Trainer(recipe(facts["steps"]), corpus, ops, saved)
    take(trainer, facts, folder, limit_s)
    if trainer.done or facts["used_s"] >= BUDGET_S:
        found = trainer.evaluate()
        facts |= {
            "bits_per_byte": found.bits_per_byte,
            "nats_per_token": found.nats_per_token,
            "held_out_bytes": found.size_bytes,
            "parameters": trainer.model.layout.size,
            "backend": ops.NAME,
            "config": RECIPE.format(
                steps=facts["steps"], precision=trainer.config.train.precision, held_out=HELD_OUT
            ),
        }
    save(folder, facts, trainer)
    print(json.dumps(facts))


def take(trainer: Trainer, facts: dict[str, Any], folder: Path, limit_s: float) -> None:
    """Step until the run, the budget or this call's share of it ends; keeping costs neither of them."""
    used, kept = 0.0, 0.0
    while not trainer.done and facts["used_s"] < BUDGET_S and used < limit_s:
        began = clock()
        trainer.step()
        took = clock() - began
        used, kept, facts["used_s"] = used + took, kept + took, facts["used_s"] + took
        facts["taken"] = trainer.next_step
        if kept >= KEEP_S:
            save(folder, facts, trainer)
            kept = 0.0


def calibrate(trainer: Trainer) -> float:
    seconds = []
    for _ in range(CALIBRATION_STEPS):
        began = clock()
        trainer.step()
        seconds.append(clock() - began)
    return statistics.median(seconds[5:])


def save(folder: Path, facts: dict[str, Any], trainer: Trainer) -> None:
    state = trainer.state()
    arrays = {f"w:{name}": tensor for name, tensor in state.weights.items()}
    arrays |= {f"o:{name}": tensor for name, tensor in state.optimizer.items()}
    partial = folder / "state.partial.npz"  # a call that is broken off here leaves the one before whole
    np.savez(partial, facts=json.dumps(facts), metadata=json.dumps(dict(state.metadata)), **arrays)
    partial.replace(folder / "state.npz")


def load(folder: Path) -> tuple[dict[str, Any], TrainingState] | None:
    if not (folder / "state.npz").exists():
        return None
    with np.load(folder / "state.npz", allow_pickle=False) as data:
        named = {part: {n[2:]: data[n] for n in data.files if n.startswith(part)} for part in ("w:", "o:")}
        facts = json.loads(str(data["facts"]))
        return facts, TrainingState(named["w:"], named["o:"], json.loads(str(data["metadata"])))


# --- the others ------------------------------------------------------------------------------------------


def nanogpt(limit_s: float) -> None:
    """Let PyTorch train for at most `limit_s` seconds from where the last call stopped."""
    folder = WORK / "nanogpt"
    folder.mkdir(parents=True, exist_ok=True)
    if not TORCH.exists():
        raise SystemExit("PyTorch is not installed: `make bench-learn` puts it into bench/.venv")
    for name, part in zip(("training", "held_out"), parts(text()), strict=True):
        (folder / name).write_bytes(part)
    clock_name = "processor" if SHARED else "wall"
    command = [TORCH, HERE / "contenders" / "nanogpt.py", folder, str(BUDGET_S), str(limit_s), clock_name]
    subprocess.run([*map(str, command)], check=True)


def yardsticks() -> None:
    """Tell what an n-gram and xz make of the held-out text after the training text."""
    training, held_out = parts(text())
    WORK.mkdir(parents=True, exist_ok=True)
    best = lzma.PRESET_EXTREME | 9
    more = len(lzma.compress(training + held_out, preset=best)) - len(lzma.compress(training, preset=best))
    facts = {"xz": 8 * more / len(held_out), f"ngram_order_{ORDER}": ngram(training, held_out)}
    (WORK / "yardsticks.json").write_text(json.dumps(facts))
    print(json.dumps(facts))


def ngram(training: bytes, held_out: bytes) -> float:
    """Bits per byte of an order-5 n-gram with absolute discounting (Ney et al. 1994)."""
    counts: list[dict[bytes, dict[int, int]]] = [defaultdict(dict) for _ in range(ORDER + 1)]
    for order, seen in enumerate(counts):
        for place in range(order, len(training)):
            after = seen[training[place - order : place]]
            after[training[place]] = after.get(training[place], 0) + 1
    sums = [
        {context: (sum(after.values()), len(after)) for context, after in seen.items()} for seen in counts
    ]
    bits = 0.0
    for place in range(ORDER, len(held_out)):
        chance, byte = 1 / 256, held_out[place]
        for order in range(ORDER + 1):
            context = held_out[place - order : place]
            if context not in sums[order]:
                break
            total, kinds = sums[order][context]
            kept = max(counts[order][context].get(byte, 0) - DISCOUNT, 0)
            chance = kept / total + DISCOUNT * kinds / total * chance
        bits -= math.log2(chance)
    return bits / (len(held_out) - ORDER)


def held(path: Path) -> dict[str, Any] | None:
    """Return what a part left, None where it has not run."""
    return json.loads(path.read_text()) if path.exists() else None


def report(*, shared: bool) -> None:
    """Put the parts together."""
    mine = load(WORK / "ours")
    peer, marks = held(WORK / "nanogpt" / "facts.json"), held(WORK / "yardsticks.json")
    parts_of = {"ours": mine and mine[0], "nanogpt": peer, "yardsticks": marks}
    if lacking := [name for name, facts in parts_of.items() if not facts]:
        raise SystemExit(f"parts that have not run: {', '.join(lacking)}; run each with --only")
    assert mine is not None
    assert peer is not None
    assert marks is not None
    for name, facts in (("ours", mine[0]), ("nanogpt", peer)):
        if "bits_per_byte" not in facts:
            raise SystemExit(f"{name} is not complete: repeat `--only {name}` until it is")
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    model = cpu.group(1) if cpu else platform.machine()
    result = {
        "what": "bits per byte of the held-out tenth of the King James Bible after 240 s of training",
        "machine": {"cpu": model, "threads": THREADS, "shared_with_other_work": shared},
        "seconds": "processor time per thread" if shared else "wall",
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "ours": mine[0],
        "nanogpt": peer,
        **marks,
        "ours_over_nanogpt": mine[0]["bits_per_byte"] / peer["bits_per_byte"],
    }
    RESULTS.mkdir(exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    (RESULTS / f"learn-{slug}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="all", choices=PARTS, help="one part; all without it")
    parser.add_argument("--slice", type=float, default=math.inf, help="seconds of training in this call")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier call left")
    parser.add_argument(
        "--shared", action="store_true", help="other work runs beside: count processor time per thread"
    )
    given = parser.parse_args()
    if given.only == "all":
        shutil.rmtree(WORK, ignore_errors=True)
    elif given.fresh:
        shutil.rmtree(WORK / given.only, ignore_errors=True)
    if given.only in ("all", "ours"):
        ours(given.slice)
    if given.only in ("all", "nanogpt"):
        nanogpt(given.slice)
    if given.only in ("all", "yardsticks"):
        yardsticks()
    if given.only in ("all", "report"):
        report(shared=given.shared)


if __name__ == "__main__":
    main()
