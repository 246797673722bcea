"""What the appliance costs a step: a jailed job with sealed checkpoints and a log, beside the bare loop.

    python bench/appliance_overhead.py [NAME ...]        prints JSON; names are those of MODELS

The bare loop is the same trainer in a process of its own, with the corpus in memory and nobody to tell. The
appliance is a real one: daemon, jail, a checkpoint every 100 steps sealed, verified by a second worker,
published and logged, retention at work. Both count the seconds of their steps; the appliance also those in
which steps waited for a checkpoint. They take turns; ratios are of medians over the rounds.
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

APPLIANCE = [sys.executable, "-I", "-m", "appliance"]
ROUNDS = 3
MODELS = {  # steps of a round, and the config; the last step comes after the last checkpoint but one
    "4 layers d128": (500, "layers = 4\nwidth = 128\nheads = 4\ncontext = 256", 8),
    "6 layers d384": (200, "layers = 6\nwidth = 384\nheads = 6\ncontext = 256", 8),
}
CONFIG = """[model]
{model}
[train]
steps = {steps}
batch = {batch}
warmup_steps = 10
eval_every = {steps}
eval_tokens = 1000
checkpoint_every = 100
[data]
corpus = "corpus"
"""
BARE = """
import json, sys, time
import numpy as np
from appliance.training.config import parse_config
from appliance.training.data import Corpus
from appliance.training.source import HeldBytes
from appliance.training.tokenizer import ByteTokenizer
from appliance.training.trainer import Trainer
from kernels import fastest
config = parse_config(open(sys.argv[1], "rb").read())
text = open(sys.argv[2], "rb").read()
trainer = Trainer(config, Corpus({"corpus": HeldBytes(text)}, ByteTokenizer(), config), fastest()[0])
trainer.evaluate()
took = 0.0
while not trainer.done:
    began = time.perf_counter()
    trainer.step()
    took += time.perf_counter() - began
print(json.dumps(took / config.train.steps))
"""


def text(size: int) -> str:
    """Enough to train on; what it says does not change how long a step takes."""
    return " ".join(f"record {n} says {n * n % 9973}." for n in range(size))


def call(*command: object, cwd: Path) -> str:
    """Run one command to its end; a failure ends the measurement with its words."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    return done.stdout


def prepare(folder: Path, names: list[str]) -> None:
    """Make an appliance that holds the corpus and the configs."""
    (folder / "corpus").mkdir()
    (folder / "corpus" / "text.txt").write_text(text(40_000))
    for number, name in enumerate(names):
        steps, model, batch = MODELS[name]
        (folder / f"m{number}.toml").write_text(CONFIG.format(model=model, steps=steps, batch=batch))
    call(*APPLIANCE, "keygen", "signer", "researcher", "--out", folder, cwd=folder)
    (folder / "officers").touch()
    call(
        *(*APPLIANCE, "--home", "home", "init", "--profile", "development", "--custody", "file:"),
        *("--trust-signer", "researcher.vkey", "--officers", "officers"),
        *("--person", f"{os.getuid()}=operator", "--public", "public", "--yes"),
        cwd=folder,
    )
    made = call(
        *(*APPLIANCE, "bundle", "create", "corpus", *(f"m{number}.toml" for number in range(len(names)))),
        *("--kind", "corpus", "--to", "public/transfer.recipient", "--sign", "researcher.key"),
        *("--channel", "lab", "--seq", 1, "--out", "bundle", "--json"),
        cwd=folder,
    )
    daemon = [*APPLIANCE, "--home", "home", "daemon", "--foreground"]
    with (folder / "daemon.log").open("wb") as said:
        subprocess.Popen(daemon, cwd=folder, stdout=said, stderr=said)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        answered = subprocess.run(
            [*APPLIANCE, "--home", "home", "unseal"], cwd=folder, capture_output=True, check=False
        )
        if not answered.returncode:
            break
        time.sleep(0.2)
    call(*APPLIANCE, "--home", "home", "import", json.loads(made)["bundle"], cwd=folder)


def of_appliance(folder: Path, config: str) -> tuple[float, float]:
    """Seconds of a step in a job, waiting included, and of that the waiting alone."""
    job = json.loads(call(*APPLIANCE, "--home", "home", "train", config, "--detach", "--json", cwd=folder))[
        "job"
    ]
    call(*APPLIANCE, "--home", "home", "watch", job, cwd=folder)
    account: dict[str, Any] = json.loads(
        call(*APPLIANCE, "--home", "home", "account", job, "--json", cwd=folder)
    )
    steps = account["step"] - account["begin_step"]
    return (account["step_seconds"] + account["waited_seconds"]) / steps, account["waited_seconds"] / steps


def measure(folder: Path, number: int, name: str) -> dict[str, Any]:
    """Alternate the two on one config."""
    bare: list[float] = []
    full: list[float] = []
    waits: list[float] = []
    for _ in range(ROUNDS):
        ran = call(sys.executable, "-c", BARE, f"m{number}.toml", "corpus/text.txt", cwd=folder)
        bare.append(json.loads(ran))
        seconds, waited = of_appliance(folder, f"m{number}")
        full.append(seconds)
        waits.append(waited)
    ratio = statistics.median(full) / statistics.median(bare)
    return {
        "steps": MODELS[name][0],
        "bare_ms_per_step": round(1000 * statistics.median(bare), 3),
        "appliance_ms_per_step": round(1000 * statistics.median(full), 3),
        "of_that_waiting_ms": round(1000 * statistics.median(waits), 4),
        "slower_by_percent": round(100 * (ratio - 1), 2),
    }


def main() -> None:
    """Print one JSON document."""
    names = sys.argv[1:] or list(MODELS)
    with tempfile.TemporaryDirectory(prefix="overhead-") as made:
        folder = Path(made)
        prepare(folder, names)
        try:
            rows = {name: measure(folder, number, name) for number, name in enumerate(names)}
        finally:
            call(*APPLIANCE, "--home", "home", "shutdown", cwd=folder)
        print(json.dumps({"rounds": ROUNDS, "checkpoint_every": 100, "models": rows}, indent=2))


if __name__ == "__main__":
    main()
