"""Bundles out and in beside the same work done by hand with `age`, `split`, `tar` and `sha256sum`.

Prints one JSON object: medians of runs that take turns with their peers, and ratios of medians, the peer's
being 1; `memory_mib` is the largest resident size of our program. The weights lie in the page cache and on
the same disk as what is written. By hand nothing is made durable and nothing is read again; ours does both,
and makes parity, so `synced` measures the hand's work followed by `sync`. What a run writes is removed
outside the clock. `python bench/bundle.py [--mib 1024] [--runs 3]`, on the disk of the folder it starts in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

OURS = [sys.executable, "-I", "-m", "appliance"]
MIB, GIB = 1 << 20, 1 << 30
TARGETS = {"export / by hand": 0.7, "import / by hand": 1.5, "memory_mib below": 200}


class Place:
    """Keys of a sender and a recipient, weights, and a folder for what is made."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        for words in (("signer", "sender"), ("recipient", "lab")):
            self.appliance("keygen", *words, "--out", str(folder))
        self.recipient = (folder / "lab.recipient").read_text().strip()
        self.weights = folder / "model.safetensors"
        self._write(size_mib)
        self.size = self.weights.stat().st_size
        self.out, self.sent = folder / "out", folder / "sent"
        self.memory_mib = 0

    def _write(self, size_mib: int) -> None:
        tensors = {"w": {"dtype": "U8", "shape": [size_mib * MIB], "data_offsets": [0, size_mib * MIB]}}
        header = json.dumps(tensors).encode()
        with self.weights.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for _ in range(size_mib):
                file.write(os.urandom(MIB))
            os.fsync(file.fileno())

    def appliance(self, *words: str) -> None:
        """Run our program to its end, and keep how large it grew."""
        child = subprocess.Popen([*OURS, *words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{words}: exit code {child.returncode}")
        self.memory_mib = max(getattr(self, "memory_mib", 0), usage.ru_maxrss // 1024)

    def create(self, out: Path) -> None:
        """Export by our program."""
        folder = str(self.folder)
        keys = ("--to", f"{folder}/lab.recipient", "--sign", f"{folder}/sender.key")
        self.appliance("bundle", "create", str(self.weights), *keys, "--out", str(out))

    def create_by_hand(self, *then: str) -> None:
        """Export as somebody does who has no program of ours."""
        self.out.mkdir()
        age = f"age -r {self.recipient} {self.weights} | split -b 256M - {self.out}/part."
        self.shell("; ".join([f"{age}; cd {self.out}; sha256sum part.* > sha256sums", *then]))

    def open(self) -> None:
        """Import by our program, as a recipient does."""
        (bundle,) = self.sent.iterdir()
        folder = str(self.folder)
        keys = ("--identity", f"{folder}/lab.identity", "--trust", f"{folder}/sender.vkey")
        self.appliance("bundle", "open", str(bundle), *keys, "--out", str(self.out))

    def open_by_hand(self) -> None:
        """Import by the commands in the bundle's readme."""
        (bundle,) = self.sent.iterdir()
        self.out.mkdir()
        opened = f"for p in p*.age; do age -d -i {self.folder}/lab.identity $p; done"
        self.shell(f"cd {bundle}; sha256sum --quiet -c sha256sums; {opened} | tar -x -C {self.out}")

    @staticmethod
    def shell(command: str) -> None:
        """Run commands as typed."""
        subprocess.run(["bash", "-ec", command], check=True)


def medians(place: Place, works: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return GiB of weights a second of each work, in turns with the others."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            os.sync()  # nobody pays for what another left to be written
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
            shutil.rmtree(place.out)
    return {name: round(place.size / GIB / statistics.median(times), 3) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the weights [1024]")
    parser.add_argument("--runs", type=int, default=3, help="runs of each [3]")
    asked = parser.parse_args()
    if shutil.which("age") is None:
        raise SystemExit("bench/bundle.py needs the public age: apt-get install age")
    with tempfile.TemporaryDirectory(prefix="bench-bundle-", dir=Path.cwd()) as scratch:
        place = Place(Path(scratch), asked.mib)
        out = {
            "ours": lambda: place.create(place.out),
            "by_hand": place.create_by_hand,
            "synced": lambda: place.create_by_hand("sync -f ."),
        }
        exported = medians(place, out, asked.runs)
        place.create(place.sent)
        imported = medians(place, {"ours": place.open, "by_hand": place.open_by_hand}, asked.runs)
        found = {
            "what": "bundles beside age, split, tar and sha256sum; GiB/s of weights",
            "weights_mib": asked.mib,
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "export": exported,
            "import": imported,
            "ratios": {
                "export / by hand": round(exported["ours"] / exported["by_hand"], 2),
                "export / by hand, synced": round(exported["ours"] / exported["synced"], 2),
                "import / by hand": round(imported["ours"] / imported["by_hand"], 2),
            },
            "memory_mib": place.memory_mib,
            "targets": TARGETS,
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
