"""Sealing and opening, whole program against whole program: ours beside the public `age`.

Prints one JSON object: MiB per second of plaintext, the best of several runs (the machine may be shared).
A run starts a program that reads one file in memory-backed storage and writes another. Opening is checked:
what comes out must be what went in. `python bench/seal.py [MiB]`
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
OURS = [sys.executable, "-I", "-m", "appliance.age"]


def timed(command: list[str], source: Path, target: Path) -> float:
    """Seconds that `command` takes from the file `source` to the file `target`."""
    with source.open("rb") as from_file, target.open("wb") as to_file:
        start = time.perf_counter()
        subprocess.run(command, stdin=from_file, stdout=to_file, check=True)
        return time.perf_counter() - start


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def measure(program: list[str], folder: Path, recipient: str, size_mib: int) -> dict[str, float]:
    plain, sealed, opened = folder / "plain", folder / "sealed", folder / "opened"
    seal = [*program, *(["encrypt"] if program == OURS else []), "-r", recipient]
    unseal = [*program, "decrypt" if program == OURS else "-d", "-i", str(folder / "identity")]
    seal_s = min(timed(seal, plain, sealed) for _ in range(RUNS))
    open_s = min(timed(unseal, sealed, opened) for _ in range(RUNS))
    assert digest(plain) == digest(opened)
    return {"seal_mib_s": round(size_mib / seal_s), "open_mib_s": round(size_mib / open_s)}


def main() -> None:
    size_mib = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        (folder / "plain").write_bytes(os.urandom(1 << 20) * size_mib)
        made = subprocess.run([*OURS, "keygen"], capture_output=True, text=True, check=True).stdout
        (folder / "identity").write_text(made, encoding="ascii")
        recipient = next(word for word in made.split() if word.startswith("age1"))
        result = {"size_mib": size_mib, "machine": platform.machine(), "cores": os.cpu_count(), "runs": RUNS}
        result["appliance.age"] = measure(OURS, folder, recipient, size_mib)
        if age := shutil.which("age"):
            result["age"] = measure([age], folder, recipient, size_mib)
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
