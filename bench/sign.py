"""Signing a model of 1 GiB beside the public `model_signing`, hashing included, each in a fresh process.

Ours is what an export does: the custodian signs digests that a worker found, the worker hashes and parses
each file as it streams past. `sha256sum` bounds both. Prints one JSON object: medians of runs in turns, and
the ratio of medians, the peer's being 1; above 1 is faster. Files lie in the page cache. Both signatures are
then checked by the public command.
`python bench/sign.py [--mib 1024] [--save]`; `--save` keeps the object in bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from safetensors.numpy import save_file

from appliance.export.signing import public_pem

RUNS = 5
MIB = 1 << 20
PUBLIC = Path(sys.executable).with_name("model_signing")
OURS = """
import contextlib, sys
from pathlib import Path
from appliance.bundle.names import JSON_TEXT, SAFETENSORS
from appliance.bundle.stream import Member, digest_member
from appliance.export.signing import load_export_key, sign_model
key, folder, out = map(Path, sys.argv[1:])
digests = {}
for path in sorted(folder.iterdir()):
    kind = SAFETENSORS if path.suffix == ".safetensors" else JSON_TEXT
    member = Member(path.name, kind, path.stat().st_size, lambda path=path: path.open("rb", buffering=0))
    digests[path.name] = digest_member(member).sha256
out.write_bytes(sign_model("model", digests, load_export_key(key.read_bytes())))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        found = measure(Path(name), given.mib)
    print(json.dumps(found, indent=1))
    if given.save:
        cpu = re.sub(r"[^a-z0-9]+", "-", str(found["cpu"]).lower()).strip("-")
        target = Path(__file__).parent / "results" / f"sign-{cpu}.json"
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, size_mib: int) -> dict[str, object]:
    model = make_model(folder / "model", size_mib)
    key, public = make_key(folder)
    contenders = {
        "ours": [sys.executable, "-c", OURS, key, model, folder / "ours.sig"],
        "model_signing": [
            PUBLIC,
            "sign",
            "key",
            "--private_key",
            key,
            "--signature",
            folder / "peer.sig",
            model,
        ],
        "sha256sum": ["sha256sum", *sorted(model.iterdir())],
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(RUNS + 1):
        for name, command in contenders.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - begun)
    for name in ("ours", "peer"):
        checked = [
            PUBLIC,
            "verify",
            "key",
            "--public_key",
            public,
            "--signature",
            folder / f"{name}.sig",
            model,
        ]
        subprocess.run(checked, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    medians = {name: statistics.median(runs[1:]) for name, runs in times.items()}  # the first fills the cache
    return {
        "what": f"signing a model of {size_mib} MiB, hashing included, a fresh process each",
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "runs": RUNS,
        "median_s": {name: round(value, 3) for name, value in medians.items()},
        "ratios": {
            "ours / model_signing": round(medians["model_signing"] / medians["ours"], 3),
            "ours / sha256sum": round(medians["sha256sum"] / medians["ours"], 3),
        },
        "targets": {"ours / model_signing": 1.0},
    }


def make_model(folder: Path, size_mib: int) -> Path:
    folder.mkdir()
    random = np.random.default_rng(1)
    tensors = {f"layer.{n}": random.standard_normal(MIB, np.float32) for n in range(size_mib // 4)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def make_key(folder: Path) -> tuple[Path, Path]:
    made = ec.generate_private_key(ec.SECP256R1())
    key, public = folder / "key.pem", folder / "export.pub"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(made.private_bytes(*form))
    public.write_bytes(public_pem(made))
    return key, public


def processor() -> str:
    names = re.findall(
        r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
    )
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
